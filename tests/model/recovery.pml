/*
 * Recovery of one operation that is made of steps: may it die at any line, and be late at any line, without harm?
 *
 * The operation charges somebody (an external call that has an undo) and books it (a local write that has an undo).
 * With -DSHIPMENT it then passes its pivot and ships (an external call that has none). Two processes serve requests and
 * look for abandoned operations. Either may die at any line, or go on for ever after its lease is over, and it may be
 * slow at any line. A call arrives whenever it likes, also when its sender is dead. The lease may end at any moment.
 *
 * Each macro takes one protection away; next to it the rule of docs/explanation/protocol.md that it is about.
 *
 *   -DNO_ATOMIC_CLAIM       C1   a claim compares what it saw in the statement that takes it
 *   -DNO_EXPIRY_ON_READ     C5   whoever reads a checkpoint judges its lease; no sweeper has to come by first
 *   -DNO_FINGERPRINT        F1   another request under the same key is refused
 *   -DNO_FENCE              C4   every write compares the fence in the same statement
 *   -DNO_UNIQUE_MEMO        R4   a step has one memo, and the memo that is there stays
 *   -DNO_CHILD_KEY          R4   whoever is called does nothing twice under one child key
 *   -DNO_INTENT             R5   an intent is durable before the call leaves
 *   -DNO_LOCAL_TRANSACTION  R5   a local effect and its memo are one commit
 *   -DNO_OUTBOX             R12  a message and the outcome that it tells of are one commit
 *   -DNO_PIVOT              R7   that the pivot was passed is durable before anything beyond it begins
 *   -DNO_REVERSE_UNDO       R7   steps are undone last first
 *   -DNO_QUIESCE            R7   no undo begins while an earlier attempt may still begin a call that it intended
 *   -DNO_EVERY_ATTEMPT      R7   that goes for each earlier attempt, also where a later one has the step's result
 *   -DNO_BARRIER            R7   an undo leaves a tombstone under the forward child key, which refuses a late call
 *   -DNO_PERSIST_FIRST      S1   an outcome is durable before a client hears it
 *
 * What must hold is asserted under the names of the invariants, I1 to I12; REST is liveness. -DWATCH=8 asserts I8 only,
 * -DWATCH=13 asserts REST only. -DCLAIMS=3 allows one claim more.
 *
 *   spin -a recovery.pml && cc -O2 -DSAFETY -o pan pan.c && ./pan
 *   spin -a -DNO_BARRIER recovery.pml && cc -O2 -DSAFETY -DBFS -o pan pan.c && ./pan; spin -t recovery.pml
 */

#ifndef CLAIMS
#define CLAIMS 2
#endif
#ifndef WATCH
#define WATCH 0
#endif

#ifdef SHIPMENT
#define STEPS 3
#define PIVOT 2
#else
#define STEPS 2
#define PIVOT STEPS
#endif
#define BOOK 1  /* the step that is local; SHIP, beyond the pivot, has no undo and needs no intent */
#define SHIP 2

mtype = { NONE, RUNNING, UNDOING, PARKED, DONE, UNDONE };

/* What is asserted, by name. Each is true in every state from which the search goes on. */
bool I1_one_final_outcome = true, I2_memos_stay = true, I3_fences = true, I4_one_effect_per_child_key = true, I5_done_means_once_each = true,
	I6_undone_means_nothing_left = true, I7_undone_in_reverse = true, I8_outcome_follows_from_memos = true, I9_no_call_after_undo_began = true,
	I10_local_effect_with_its_memo = true, I11_message_with_its_commit = true, I12_never_two_fingerprints = true, REST_final_or_parked = true;

#define CHECK(number, name, holds)  name = ((holds) || (WATCH != 0 && WATCH != number)); assert(name)

/* The checkpoint. An outcome is made of the memos' values, two bits each; ALL_UNDONE is like none of them. */
mtype state = NONE;
byte fence, outcome;
bool leased, turned, pivoted;
#define ALL_UNDONE 1

/* A step: what the checkpoint says of it, what really happened, and the calls that travel, one bit for each fence. */
typedef Step {
	bool intent; byte memo; bool undone;
	byte calls; byte made; byte standing; bool taken_back; bool refuses;
	byte out; byte back
};
Step step[STEPS];

/* What others must know of a process: the fence it believes in, the step it intends to call (counted from 1), the call
   and the undo that it waits for (likewise), and what came back. */
typedef Process { byte fence; byte intends; byte waits; byte waits_undo; byte got; bool back };
Process process[2];

byte heard, heard_by_other, messages;
#ifdef NO_EXPIRY_ON_READ
bool swept;
bool sweeper = true;
#endif

#define FINAL (state == DONE || state == UNDONE)
#define OPEN (state == RUNNING || state == UNDOING)
#define ABANDONED (OPEN && !leased && fence < CLAIMS)
#ifdef NO_EXPIRY_ON_READ
#define FREE (state == NONE || (ABANDONED && swept))
#else
#define FREE (state == NONE || ABANDONED)
#endif

#ifdef NO_FENCE
#define HOLDS true
#else
#define HOLDS (process[me].fence == fence)
#endif

#define MAY_BE_UNDONE(s) (s != SHIP && (step[s].intent || step[s].memo) && !step[s].undone)
#define TRAVELS_OF(s) (step[s].out || step[s].back)
#ifdef SHIPMENT
#define TRAVELS (TRAVELS_OF(0) || TRAVELS_OF(SHIP))
#define ALL_STAND (step[0].standing == 1 && step[1].standing == 1 && step[2].standing == 1)
#define ALL_ONCE (ALL_STAND && step[0].made == 1 && step[1].made == 1 && step[2].made == 1)
#define NONE_STANDS (!step[0].standing && !step[1].standing && !step[2].standing)
#define OF_MEMOS (step[0].memo + 4 * step[1].memo + 16 * step[2].memo)
#define ONE_EACH (step[0].made <= 1 && step[2].made <= 1)
#else
#define TRAVELS TRAVELS_OF(0)
#define ALL_STAND (step[0].standing == 1 && step[1].standing == 1)
#define ALL_ONCE (ALL_STAND && step[0].made == 1 && step[1].made == 1)
#define NONE_STANDS (!step[0].standing && !step[1].standing)
#define OF_MEMOS (step[0].memo + 4 * step[1].memo)
#define ONE_EACH (step[0].made <= 1)
#endif
#define UNDO_BEGAN (state == UNDONE || step[0].taken_back || step[1].taken_back || step[0].back)

inline more(count) { if :: count < 2 -> count++ :: else fi }
inline less(count) { if :: count > 0 -> count-- :: else fi }

/* A write that the store accepted. */
inline wrote()
{
	CHECK(1, I1_one_final_outcome, !FINAL);
	CHECK(3, I3_fences, process[me].fence == fence)
}

inline memoize(s, given)
{
	wrote();
	CHECK(2, I2_memos_stay, step[s].memo == 0 || step[s].memo == given);
	step[s].memo = given
}

/* Where an undo of a step takes effect. */
inline took_back(s)
{
	CHECK(7, I7_undone_in_reverse, step[s].taken_back || s != 0 || !MAY_BE_UNDONE(BOOK));
	less(step[s].standing);
	step[s].taken_back = true
}

inline end_as(how, given)
{
	state = how;
	outcome = given;
	leased = false;
#ifndef NO_OUTBOX
	if :: how == DONE -> messages = 1 :: else fi
#endif
}

/* The next step to undo, or STEPS when there is none; steps are looked at from the end, or without reverse undo from
   the beginning. */
inline find_undo()
{
	if
#ifdef NO_REVERSE_UNDO
	:: MAY_BE_UNDONE(0) -> at = 0
	:: !MAY_BE_UNDONE(0) && MAY_BE_UNDONE(BOOK) -> at = BOOK
#else
	:: MAY_BE_UNDONE(BOOK) -> at = BOOK
	:: !MAY_BE_UNDONE(BOOK) && MAY_BE_UNDONE(0) -> at = 0
#endif
	:: else -> at = STEPS
	fi
}

/* Takes the claim under the next fence, and takes up what the memos say. */
inline take(seen)
{
	CHECK(1, I1_one_final_outcome, !FINAL);
	CHECK(3, I3_fences, seen + 1 > fence);
	fence = seen + 1;
	process[me].fence = fence;
	leased = true;
#ifdef NO_EXPIRY_ON_READ
	swept = false
#endif
}

inline take_forward(seen)
{
	take(seen);
	state = RUNNING;
	at = (step[0].memo -> (step[1].memo -> (STEPS == 3 && step[STEPS - 1].memo -> STEPS : 2) : 1) : 0);
	known = OF_MEMOS
}

inline take_to_undo(seen)
{
	take(seen);
	state = UNDOING;
	turned = true;
	process[me].back = true;
	find_undo()
}

inline forget()
{
	process[me].fence = 0; process[me].intends = 0; process[me].waits = 0; process[me].waits_undo = 0;
	process[me].got = 0; process[me].back = false;
	at = 0; value = 0; known = 0
}

/* May this process begin an undo, though the other attempt may be about to call? */
#ifdef NO_QUIESCE
#define QUIET true
#else
#define OTHER process[1 - me]
#ifdef NO_EVERY_ATTEMPT
#define QUIET (!OTHER.intends || OTHER.fence >= process[me].fence || step[OTHER.intends - 1].memo)
#else
#define QUIET (!OTHER.intends || OTHER.fence >= process[me].fence)
#endif
#endif

proctype serve(byte me)
{
	byte at, value, known;

idle:
end:	if
#ifdef NO_ATOMIC_CLAIM
	:: atomic { FREE -> process[me].fence = fence; goto looked }
#else
	:: atomic { FREE && !turned -> take_forward(fence); goto ready }
	:: atomic { FREE && turned -> take_to_undo(fence); goto going_back }
	:: atomic { FREE && state == RUNNING && !pivoted -> take_to_undo(fence); goto going_back }
#endif
	fi;

#ifdef NO_ATOMIC_CLAIM
looked:
	if
	:: atomic { FINAL -> forget(); goto idle }
	:: atomic { !FINAL && !turned -> take_forward(process[me].fence); goto ready }
	:: atomic { !FINAL && turned -> take_to_undo(process[me].fence); goto going_back }
	:: atomic { state == RUNNING && !pivoted -> take_to_undo(process[me].fence); goto going_back }
	:: atomic { forget(); goto idle }
	fi;
#endif

	/* Forward: about to begin a step, or at the end. */
ready:
	if
#ifndef NO_PIVOT
	:: atomic { at < STEPS && at == PIVOT && !pivoted && state == RUNNING && HOLDS -> wrote(); pivoted = true; goto ready }
#define BEFORE_IT (at != PIVOT || pivoted)
#else
#define BEFORE_IT true
#endif
#ifdef NO_INTENT
	:: atomic { at == 0 -> goto calling }
#else
	:: atomic { at == 0 && state == RUNNING && HOLDS -> wrote(); step[0].intent = true; process[me].intends = 1; goto calling }
#endif
	:: atomic { at == SHIP && STEPS == 3 && BEFORE_IT -> goto calling }
#ifdef NO_LOCAL_TRANSACTION
	:: atomic { at == BOOK ->
		more(step[BOOK].calls); more(step[BOOK].made); more(step[BOOK].standing);
		value = step[BOOK].calls; goto knows }
#else
#ifdef NO_UNIQUE_MEMO
#define MEMO_THERE false
#else
#define MEMO_THERE (step[BOOK].memo > 0)
#endif
	:: atomic { at == BOOK && (state == RUNNING || state == PARKED) && HOLDS && MEMO_THERE ->
		known = known + 4 * step[BOOK].memo; at++; goto ready }
	:: atomic { at == BOOK && (state == RUNNING || state == PARKED) && HOLDS && !MEMO_THERE ->
		more(step[BOOK].calls); more(step[BOOK].made); more(step[BOOK].standing);
		memoize(BOOK, step[BOOK].calls);
		if
		:: known = known + 4 * step[BOOK].memo; at++
		:: skip  /* it was committed, and the process did not hear of it */
		fi;
		goto ready }
#endif
#ifdef NO_PERSIST_FIRST
	:: atomic { at == STEPS && !heard -> heard = known; goto recording }
	:: atomic { at == STEPS && heard -> goto recording }
#else
#ifdef NO_OUTBOX
	:: atomic { at == STEPS -> more(messages); goto recording }
#else
	:: atomic { at == STEPS -> goto recording }
#endif
#endif
	:: atomic { at <= PIVOT && !pivoted && state == RUNNING && HOLDS ->  /* the operation refuses: back, at once */
		wrote(); state = UNDOING; turned = true; process[me].back = true; find_undo(); goto going_back }
	:: atomic { at == 0 && step[0].intent && !step[0].memo && state == RUNNING && HOLDS ->  /* nobody knows: park */
		wrote(); state = PARKED; forget(); goto idle }
	:: atomic { forget(); goto idle }  /* it dies, or its write was refused */
	fi;

calling:
	if
	:: atomic { true ->
		CHECK(9, I9_no_call_after_undo_began, !UNDO_BEGAN);
		step[at].out = step[at].out | (1 << process[me].fence);
		process[me].intends = 0; process[me].waits = at + 1 }
	:: atomic { forget(); goto idle }
	fi;
end_waiting:
	if
	:: atomic { process[me].got > 0 -> value = process[me].got; process[me].got = 0 }
	:: atomic { forget(); goto idle }
	fi;
knows:
	if
#ifdef NO_UNIQUE_MEMO
	:: atomic { (state == RUNNING || state == PARKED) && HOLDS ->
		memoize(at, value);
#else
	:: atomic { (state == RUNNING || state == PARKED) && HOLDS ->
		if
		:: step[at].memo == 0 -> memoize(at, value)
		:: else  /* with a fence it is its own, whose commit went unheard; without one nobody can tell */
		fi;
#endif
		known = known + (value << (2 * at)); value = 0; at++; goto ready }
	:: atomic { forget(); goto idle }
	fi;
recording:
	if
	:: atomic { (state == RUNNING || state == PARKED) && HOLDS -> wrote(); end_as(DONE, known); forget(); goto idle }
	:: atomic { forget(); goto idle }
	fi;

	/* Back: about to undo a step, or at the end. */
going_back:
	if
	:: atomic { at == 0 && QUIET ->
		step[0].back = step[0].back | (1 << process[me].fence);
		process[me].back = false; process[me].waits_undo = 1; goto end_waiting_back }
	:: atomic { at == BOOK && QUIET && (state == UNDOING || state == PARKED) && HOLDS ->
		wrote(); took_back(BOOK); step[BOOK].undone = true; find_undo(); goto going_back }
	:: atomic { at == STEPS && (state == UNDOING || state == PARKED) && HOLDS ->
		wrote(); end_as(UNDONE, ALL_UNDONE); forget(); goto idle }
	:: atomic { forget(); goto idle }
	fi;
end_waiting_back:
	if
	:: atomic { process[me].got > 0 -> process[me].got = 0 }
	:: atomic { forget(); goto idle }
	fi;
	if
	:: atomic { (state == UNDOING || state == PARKED) && HOLDS ->
		wrote(); step[0].undone = true; process[me].back = true; find_undo(); goto going_back }
	:: atomic { forget(); goto idle }
	fi
}

/* Whoever still waits for the call hears the answer: how many calls there were under its child key. */
inline answer(s, f, given)
{
	if :: process[0].waits == s + 1 && process[0].fence == f -> process[0].got = given; process[0].waits = 0 :: else fi;
	if :: process[1].waits == s + 1 && process[1].fence == f -> process[1].got = given; process[1].waits = 0 :: else fi
}

inline arrive(s, f)
{
	step[s].out = step[s].out & ~(1 << f);
	if
	:: step[s].refuses  /* whoever waits for it waits in vain, and may die */
	:: else ->
		more(step[s].calls);
#ifndef NO_CHILD_KEY
		if :: step[s].made == 0 -> more(step[s].made); more(step[s].standing) :: else fi;
#else
		more(step[s].made); more(step[s].standing);
#endif
		answer(s, f, step[s].calls)
	fi
}

inline arrive_back(f)
{
	step[0].back = step[0].back & ~(1 << f);
#ifdef NO_CHILD_KEY
	took_back(0);
#else
	if :: !step[0].taken_back -> took_back(0) :: else fi;
#endif
#ifndef NO_BARRIER
	step[0].refuses = true;
#endif
	if :: process[0].waits_undo && process[0].fence == f -> process[0].got = 1; process[0].waits_undo = 0 :: else fi;
	if :: process[1].waits_undo && process[1].fence == f -> process[1].got = 1; process[1].waits_undo = 0 :: else fi
}

#define ARRIVES(s, f) :: atomic { (step[s].out & (1 << f)) -> arrive(s, f) }
#define ARRIVES_BACK(f) :: atomic { (step[0].back & (1 << f)) -> arrive_back(f) }

active proctype network()
{
end:	do
	ARRIVES(0, 1) ARRIVES(0, 2) ARRIVES(0, 3)
	ARRIVES_BACK(1) ARRIVES_BACK(2) ARRIVES_BACK(3)
#ifdef SHIPMENT
	ARRIVES(SHIP, 1) ARRIVES(SHIP, 2) ARRIVES(SHIP, 3)
#endif
	od
}

active proctype time()
{
end:	do
	:: atomic { OPEN && leased -> leased = false }
	:: atomic { OPEN && !leased && fence >= CLAIMS -> state = PARKED }  /* its attempts are spent (R8) */
#ifdef NO_EXPIRY_ON_READ
	:: atomic { OPEN && !leased && !swept && sweeper -> swept = true }
	:: atomic { sweeper -> sweeper = false }
#endif
	od
}

active proctype clients()
{
end:	do
	:: atomic { outcome && !heard -> heard = outcome }
#ifdef NO_FINGERPRINT
	:: atomic { outcome && !heard_by_other -> heard_by_other = outcome }
#endif
	od
}

/* A person, about what is parked. Each verb raises the fence (R10). Who settles it has seen that nothing travels. */
#define SETTLED_DOWN (!TRAVELS && !process[0].intends && !process[1].intends && !process[0].back && !process[1].back)

active proctype operator()
{
end:	do
	:: atomic { state == PARKED && fence < CLAIMS && !turned -> fence++; leased = false; state = RUNNING }
	:: atomic { state == PARKED && fence < CLAIMS && turned -> fence++; leased = false; state = UNDOING }
	:: atomic { state == PARKED && fence < CLAIMS && !turned && !pivoted ->
		fence++; leased = false; turned = true; state = UNDOING }
	:: atomic { state == PARKED && SETTLED_DOWN && ALL_STAND ->
		fence++;
		if :: step[0].memo == 0 -> step[0].memo = step[0].calls :: else fi;
		if :: step[1].memo == 0 -> step[1].memo = step[1].calls :: else fi;
#ifdef SHIPMENT
		if :: step[2].memo == 0 -> step[2].memo = step[2].calls :: else fi;
#endif
		end_as(DONE, OF_MEMOS) }
	:: atomic { state == PARKED && SETTLED_DOWN && NONE_STANDS -> fence++; end_as(UNDONE, ALL_UNDONE) }
	od
}

/* Stands by and looks: a line of it can only be taken where an invariant does not hold, or when nothing moves any more. */
#define BROKEN(number, holds) (!(holds) && (WATCH == 0 || WATCH == number))

active proctype watch()
{
end:	do
	:: BROKEN(1, heard == 0 || outcome == 0 || heard == outcome) -> CHECK(1, I1_one_final_outcome, false)
	:: BROKEN(4, ONE_EACH) -> CHECK(4, I4_one_effect_per_child_key, false)
	:: BROKEN(5, state != DONE || ALL_ONCE) -> CHECK(5, I5_done_means_once_each, false)
	:: BROKEN(6, state != UNDONE || TRAVELS || NONE_STANDS) -> CHECK(6, I6_undone_means_nothing_left, false)
	:: BROKEN(8, state != DONE || outcome == OF_MEMOS) -> CHECK(8, I8_outcome_follows_from_memos, false)
	:: BROKEN(10, step[BOOK].made == (step[BOOK].memo > 0) && step[BOOK].standing == step[BOOK].made - step[BOOK].undone) ->
		CHECK(10, I10_local_effect_with_its_memo, false)
	:: BROKEN(11, messages == (state == DONE)) -> CHECK(11, I11_message_with_its_commit, false)
	:: BROKEN(12, heard <= ALL_UNDONE || heard_by_other <= ALL_UNDONE) -> CHECK(12, I12_never_two_fingerprints, false)
	:: timeout -> CHECK(13, REST_final_or_parked, FINAL || state == PARKED); break
	od
}

init { atomic { run serve(0); run serve(1) } }

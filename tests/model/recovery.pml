/*
 * Recovery of one operation that is made of steps. May processes die at any line, and be late at any line?
 *
 * The operation charges somebody (an external call that has an undo) and books it (a local write that has an undo).
 * With -DSHIPMENT it then passes its pivot and ships (an external call that has none, and whose intent is spared). Two
 * processes serve requests and look for abandoned operations. Each may die at any line, and each may go on after its
 * lease is over: nothing tells it. A call arrives whenever it likes, also when its sender is dead. A lease may end at
 * any moment. A person may resume, undo or settle what is parked.
 *
 * Each macro takes one protection away. Beside it stands the rule of docs/explanation/protocol.md that it belongs to.
 *
 *   -DNO_ATOMIC_CLAIM       C1   a claim compares what it saw in the statement that takes it
 *   -DNO_FENCE              C4   every write compares the fence in the same statement
 *   -DNO_EXPIRY_ON_READ     C5   whoever reads a checkpoint judges its lease; nobody has to mark it first
 *   -DNO_FINGERPRINT        F1   another request under the same key is refused
 *   -DNO_PERSIST_FIRST      S1   an outcome is durable before a client hears it
 *   -DNO_UNIQUE_MEMO        R4   a step has one memo, and the memo that is there stays
 *   -DNO_CHILD_KEY          R4   whoever is called does nothing twice under one child key
 *   -DNO_INTENT             R5   an intent is durable before the call leaves
 *   -DNO_LOCAL_TRANSACTION  R5   a local effect and its memo are one commit
 *   -DNO_BARRIER            R7   an undo leaves a tombstone under the forward child key, which refuses a late call
 *   -DNO_REVERSE_UNDO       R7   steps are undone last first
 *   -DNO_QUIESCE            R7   no undo begins while an earlier attempt may still begin a call that it intended
 *   -DNO_EVERY_ATTEMPT      R7   that goes for each earlier attempt, also where a later one has the step's result
 *   -DNO_PIVOT              R7   that the pivot was passed is durable before anything beyond it begins
 *   -DNO_OUTBOX             R12  a message and the outcome that it tells of are one commit
 *
 * What must hold is asserted under the ids of the invariants, I1 to I12; REST is liveness. -DCLAIMS=3 allows three
 * claims instead of two. By hand:
 *
 *   spin -a recovery.pml && cc -DSAFETY -o pan pan.c && ./pan
 *   spin -a -DNO_BARRIER recovery.pml && cc -DSAFETY -DBFS -o pan pan.c && ./pan; spin -t -DNO_BARRIER recovery.pml
 *
 * The first finds nothing. The second finds a shortest way to what breaks, and tells it.
 */

#ifndef CLAIMS
#define CLAIMS 2
#endif

#define CHARGE 0
#define BOOK 1  /* local */
#define SHIP 2  /* beyond the pivot; it has no undo and needs no intent */
#ifdef SHIPMENT
#define STEPS 3
#define PIVOT SHIP
#else
#define STEPS 2
#define PIVOT STEPS
#endif

mtype = { charge, book, ship };
#define NAME(s) (s == CHARGE -> charge : (s == BOOK -> book : ship))
#define WHO (65 + me)

/* The checkpoint. An outcome is made of the values of the memos, two bits each; ALL_UNDONE is like none of them. */
mtype = { NONE, RUNNING, UNDOING, PARKED, DONE, UNDONE };
mtype state = NONE;
byte fence, outcome;
bool leased;
bool turned;  /* it was turned back once, and never goes forward again */
bool pivoted;
#define ALL_UNDONE 1

typedef Step {
	/* What the checkpoint says of it; memo 0 is "not known". */
	bool intent; byte memo; bool undone;
	/* What really happened: calls answered, effects ever made, effects not taken back; an undo has come; a tombstone is
	   there. 2 is "more than one". A call gives its number, so that no two calls give the same. */
	byte calls; byte made; byte standing; bool taken_back; bool refuses;
	/* Calls, and calls of the undo, that have left and not arrived: a bit for the fence of each. */
	byte out; byte back
};
Step step[STEPS];

/* What others can tell of a process: the fence that it believes to hold; the step that it is about to call, has called,
   or has called the undo of, each counted from 1; what was answered; whether it is about to undo a step. */
typedef Process { byte fence; byte intends; byte waits; byte waits_back; byte answer; bool back };
Process process[2];

byte heard, heard_by_other;  /* what the client was answered, and another request under its key */
byte messages;               /* in the outbox */
#ifdef NO_EXPIRY_ON_READ
bool swept;
bool sweeper = true;
#endif

#define FINAL (state == DONE || state == UNDONE)
#define OPEN (state == RUNNING || state == UNDOING)
#define ABANDONED (OPEN && !leased && fence < CLAIMS)
#define MAY_HAVE_HAPPENED(s) ((step[s].intent || step[s].memo > 0) && !step[s].undone)
#define MEMOS2 (step[CHARGE].memo + 4 * step[BOOK].memo)
#define STAND2 (step[CHARGE].standing == 1 && step[BOOK].standing == 1)
#define GONE2 (step[CHARGE].standing == 0 && step[BOOK].standing == 0)
#define ONCE2 (step[CHARGE].made == 1 && step[BOOK].made == 1)
#define TRAVELS2 (step[CHARGE].out || step[CHARGE].back)
#ifdef SHIPMENT
#define MEMOS (MEMOS2 + 16 * step[SHIP].memo)
#define STAND (STAND2 && step[SHIP].standing == 1)
#define GONE (GONE2 && step[SHIP].standing == 0)
#define ONCE (ONCE2 && step[SHIP].made == 1)
#define TRAVELS (TRAVELS2 || step[SHIP].out)
#define ONE_EACH (step[CHARGE].made <= 1 && step[SHIP].made <= 1)
#define AFTER_BOOK (step[SHIP].memo == 0 -> SHIP : STEPS)
#else
#define MEMOS MEMOS2
#define STAND STAND2
#define GONE GONE2
#define ONCE ONCE2
#define TRAVELS TRAVELS2
#define ONE_EACH (step[CHARGE].made <= 1)
#define AFTER_BOOK STEPS
#endif
#define NEXT (step[CHARGE].memo == 0 -> CHARGE : (step[BOOK].memo == 0 -> BOOK : AFTER_BOOK))

/* Each of them is true in every state from which the search goes on. */
bool I1_one_final_outcome = true, I2_memos_stay = true, I3_writes_carry_the_fence = true,
	I4_one_effect_per_child_key = true, I5_done_means_once_each = true, I6_undone_means_nothing_left = true,
	I7_undone_in_reverse = true, I8_outcome_follows_from_memos = true, I9_no_call_after_undo_began = true,
	I10_local_effect_with_its_memo = true, I11_message_with_its_commit = true, I12_never_two_fingerprints = true,
	REST_final_or_parked = true;

#define CHECK(name, holds) name = (holds); assert(name)

/* A claim or a write that the store accepted. */
inline wrote() {
	CHECK(I1_one_final_outcome, !FINAL);
	CHECK(I3_writes_carry_the_fence, process[me].fence == fence)
}

#ifdef NO_FENCE
#define HOLDS true
#else
#define HOLDS (process[me].fence == fence)
#endif
/* What the store accepts: anything that begins; what a step gave, and the outcome; what takes back. */
#define MAY_BEGIN (state == RUNNING && HOLDS)
#define MAY_TELL ((state == RUNNING || state == PARKED) && HOLDS)
#define MAY_UNDO ((state == UNDOING || state == PARKED) && HOLDS)

#ifdef NO_EXPIRY_ON_READ
#define FREE (state == NONE || (ABANDONED && swept))
#else
#define FREE (state == NONE || ABANDONED)
#endif

#ifdef NO_UNIQUE_MEMO
#define IS_THERE(s) false
#else
#define IS_THERE(s) (step[s].memo > 0)
#endif

#ifdef NO_PIVOT
#define BEYOND_PIVOT true
#else
#define BEYOND_PIVOT pivoted
#endif

/* The next step to undo, or STEPS when there is none. */
#ifdef NO_REVERSE_UNDO
#define TO_UNDO (MAY_HAVE_HAPPENED(CHARGE) -> CHARGE : (MAY_HAVE_HAPPENED(BOOK) -> BOOK : STEPS))
#else
#define TO_UNDO (MAY_HAVE_HAPPENED(BOOK) -> BOOK : (MAY_HAVE_HAPPENED(CHARGE) -> CHARGE : STEPS))
#endif

/* The time-outs of earlier attempts have passed: none can begin a call that it intended. */
#define OTHER process[1 - me]
#define EARLIER_INTENDS (OTHER.intends > 0 && OTHER.fence < process[me].fence)
#ifdef NO_QUIESCE
#define QUIET true
#else
#ifdef NO_EVERY_ATTEMPT
#define QUIET (!EARLIER_INTENDS || step[OTHER.intends - 1].memo > 0)
#else
#define QUIET (!EARLIER_INTENDS)
#endif
#endif

inline more(count) { count = (count < 2 -> count + 1 : 2) }

inline happens(s) { more(step[s].made); more(step[s].standing) }

inline is_taken_back(s) {
	CHECK(I7_undone_in_reverse, step[s].taken_back || s == BOOK || !MAY_HAVE_HAPPENED(BOOK));
	step[s].standing = (step[s].standing > 0 -> step[s].standing - 1 : 0);
	step[s].taken_back = true
}

inline memoize(s, given) {
	wrote();
	CHECK(I2_memos_stay, step[s].memo == 0 || step[s].memo == given);
	step[s].memo = given
}

inline make_final(how, given) {
	state = how;
	outcome = given;
	leased = false;
#ifndef NO_OUTBOX
	messages = (how == DONE -> 1 : messages);
#endif
}

/* Forgets everything: it dies, or it stops because a write was refused. The process is free for another attempt. */
inline stop() {
	process[me].fence = 0; process[me].intends = 0; process[me].waits = 0; process[me].waits_back = 0;
	process[me].answer = 0; process[me].back = false;
	at = 0; known = 0
}

inline take(seen) {
	CHECK(I1_one_final_outcome, !FINAL);
	CHECK(I3_writes_carry_the_fence, seen + 1 > fence);
	fence = seen + 1;
	process[me].fence = fence;
#ifdef NO_EXPIRY_ON_READ
	swept = false;
#endif
	leased = true
}

inline take_forward(seen) {
	printf("%c claims\n", WHO);
	take(seen);
	state = RUNNING;
	at = NEXT;
	known = MEMOS
}

inline turn_back() {
	state = UNDOING;
	turned = true;
	process[me].back = true;
	at = TO_UNDO
}

inline take_to_undo(seen) {
	printf("%c claims, to undo\n", WHO);
	take(seen);
	turn_back()
}

#define DIES atomic { true -> stop(); goto end_idle }

proctype serve(byte me)
{
	byte at;     /* the step that it is at; STEPS at the end */
	byte known;  /* what the steps before gave, as it knows it */

end_idle:
	if
#ifdef NO_ATOMIC_CLAIM
	:: atomic { FREE -> printf("%c looks\n", WHO); process[me].fence = fence };
		if
		:: atomic { !FINAL && !turned -> take_forward(process[me].fence); goto ready }
		:: atomic { !FINAL && turned -> take_to_undo(process[me].fence); goto going_back }
		:: atomic { state == RUNNING && !pivoted -> take_to_undo(process[me].fence); goto going_back }
		:: DIES
		fi
#else
	:: atomic { FREE && !turned -> take_forward(fence); goto ready }
	:: atomic { FREE && turned -> take_to_undo(fence); goto going_back }
	:: atomic { FREE && state == RUNNING && !pivoted -> take_to_undo(fence); goto going_back }
#endif
	fi;

ready:  /* going forward, and about to begin a step, or at the end */
	if
#ifdef NO_INTENT
	:: at == CHARGE -> goto calling
#else
	:: atomic { at == CHARGE && MAY_BEGIN ->
		printf("%c writes the intent of charge\n", WHO);
		wrote(); step[CHARGE].intent = true; process[me].intends = CHARGE + 1; goto calling }
#endif
	:: atomic { at == CHARGE && MAY_BEGIN && step[CHARGE].intent && step[CHARGE].memo == 0 ->
		printf("%c parks it: nobody knows whether charge happened\n", WHO);
		wrote(); state = PARKED; stop(); goto end_idle }
#ifdef NO_LOCAL_TRANSACTION
	:: atomic { at == BOOK ->
		printf("%c commits the effect of book\n", WHO);
		more(step[BOOK].calls); happens(BOOK); process[me].answer = step[BOOK].calls; goto knows }
#else
	:: atomic { at == BOOK && MAY_TELL && !IS_THERE(BOOK) ->
		more(step[BOOK].calls); happens(BOOK); memoize(BOOK, step[BOOK].calls);
		if
		:: printf("%c commits effect and memo of book\n", WHO); known = known + 4 * step[BOOK].memo; at++
		:: printf("%c commits effect and memo of book, and does not hear of it\n", WHO)
		fi;
		goto ready }
	:: atomic { at == BOOK && MAY_TELL && IS_THERE(BOOK) ->
		printf("%c finds its memo of book\n", WHO);
		known = known + 4 * step[BOOK].memo; at++; goto ready }
#endif
#ifdef SHIPMENT
#ifndef NO_PIVOT
	:: atomic { at == PIVOT && !pivoted && MAY_BEGIN ->
		printf("%c passes the pivot\n", WHO);
		wrote(); pivoted = true; goto ready }
#endif
	:: at == SHIP && BEYOND_PIVOT -> goto calling
#endif
	:: atomic { at == STEPS ->
#ifdef NO_PERSIST_FIRST
		if
		:: !heard -> printf("%c answers its client\n", WHO); heard = known
		:: else
		fi;
#endif
#ifdef NO_OUTBOX
		printf("%c sends the message\n", WHO); more(messages);
#endif
		goto recording }
	:: atomic { at <= PIVOT && !pivoted && MAY_BEGIN ->
		printf("%c turns back\n", WHO);
		wrote(); turn_back(); goto going_back }
	:: DIES
	fi;

calling:
	if
	:: atomic { true ->
		printf("%c calls %e\n", WHO, NAME(at));
		CHECK(I9_no_call_after_undo_began, state != UNDONE && !step[CHARGE].taken_back && !step[BOOK].taken_back
			&& !step[CHARGE].back);
		step[at].out = step[at].out | (1 << process[me].fence);
		process[me].intends = 0; process[me].waits = at + 1 }
	:: DIES
	fi;
	if
	:: process[me].answer > 0
	:: DIES
	fi;

knows:
	if
	:: atomic { MAY_TELL ->
		if
		:: !IS_THERE(at) -> memoize(at, process[me].answer);
			if
			:: printf("%c writes the memo of %e\n", WHO, NAME(at))
			:: printf("%c writes the memo of %e, and does not hear of it\n", WHO, NAME(at)); goto knows
			fi
		:: else ->
			/* With a fence it can only be its own, whose commit went unheard; without one nobody can tell. */
			printf("%c takes the memo of %e for its own\n", WHO, NAME(at))
		fi;
		known = known + (process[me].answer << (2 * at)); process[me].answer = 0; at++; goto ready }
	:: DIES
	fi;

recording:
	if
	:: atomic { MAY_TELL ->
		printf("%c records the outcome\n", WHO);
		wrote(); make_final(DONE, known); stop(); goto end_idle }
	:: DIES
	fi;

going_back:  /* about to undo a step, or at the end */
	if
	:: atomic { at == CHARGE && QUIET ->
		printf("%c calls the undo of charge\n", WHO);
		step[CHARGE].back = step[CHARGE].back | (1 << process[me].fence);
		process[me].back = false; process[me].waits_back = CHARGE + 1; goto waiting_back }
	:: atomic { at == BOOK && QUIET && MAY_UNDO ->
		printf("%c commits undo and memo of book\n", WHO);
		wrote(); is_taken_back(BOOK); step[BOOK].undone = true; at = TO_UNDO; goto going_back }
	:: atomic { at == STEPS && MAY_UNDO ->
		printf("%c records undone\n", WHO);
		wrote(); make_final(UNDONE, ALL_UNDONE); stop(); goto end_idle }
	:: atomic { at < STEPS && state == UNDOING && HOLDS ->
		printf("%c parks it: the undo does not go through\n", WHO);
		wrote(); state = PARKED; stop(); goto end_idle }
	:: DIES
	fi;

waiting_back:
	if
	:: process[me].answer > 0
	:: DIES
	fi;
	if
	:: atomic { MAY_UNDO ->
		printf("%c writes the memo of the undo of charge\n", WHO);
		wrote(); step[CHARGE].undone = true; process[me].answer = 0; process[me].back = true; at = TO_UNDO;
		goto going_back }
	:: DIES
	fi;
}

/* Whoever still waits for a call that arrives hears the answer. */
#define WAITS(p, s, f) (process[p].waits == s + 1 && process[p].fence == f)
#define WAITS_BACK(p, f) (process[p].waits_back == CHARGE + 1 && process[p].fence == f)
inline hears(p, given) { process[p].answer = given; process[p].waits = 0; process[p].waits_back = 0 }

inline arrive(s, f) {
	step[s].out = step[s].out & ~(1 << f);
	if
	:: step[s].refuses -> printf("the call of %e is refused\n", NAME(s))
	:: else ->
		printf("the call of %e arrives\n", NAME(s));
		more(step[s].calls);
#ifdef NO_CHILD_KEY
		happens(s);
#else
		if :: step[s].made == 0 -> happens(s) :: else fi;
#endif
		if :: WAITS(0, s, f) -> hears(0, step[s].calls) :: else fi;
		if :: WAITS(1, s, f) -> hears(1, step[s].calls) :: else fi
	fi
}

inline arrive_back(f) {
	printf("the undo of charge arrives\n");
	step[CHARGE].back = step[CHARGE].back & ~(1 << f);
#ifdef NO_CHILD_KEY
	is_taken_back(CHARGE);
#else
	if :: !step[CHARGE].taken_back -> is_taken_back(CHARGE) :: else fi;
#endif
#ifndef NO_BARRIER
	step[CHARGE].refuses = true;
#endif
	if :: WAITS_BACK(0, f) -> hears(0, 1) :: else fi;
	if :: WAITS_BACK(1, f) -> hears(1, 1) :: else fi
}

#define ARRIVES(s, f) :: atomic { (step[s].out & (1 << f)) -> arrive(s, f) }
#define ARRIVES_BACK(f) :: atomic { (step[CHARGE].back & (1 << f)) -> arrive_back(f) }

active proctype network()
{
end:	do
	ARRIVES(CHARGE, 1) ARRIVES_BACK(1) ARRIVES(CHARGE, 2) ARRIVES_BACK(2)
#if CLAIMS > 2
	ARRIVES(CHARGE, 3) ARRIVES_BACK(3)
#endif
#ifdef SHIPMENT
	ARRIVES(SHIP, 1) ARRIVES(SHIP, 2)
#if CLAIMS > 2
	ARRIVES(SHIP, 3)
#endif
#endif
	od
}

/* Time, and the scan that parks what the last claim left (R8). */
active proctype time()
{
end:	do
	:: atomic { OPEN && leased -> printf("the lease ends\n"); leased = false }
	:: atomic { OPEN && !leased && fence >= CLAIMS -> printf("the scan parks it\n"); state = PARKED }
#ifdef NO_EXPIRY_ON_READ
	:: atomic { sweeper && OPEN && !leased && !swept -> printf("the sweeper marks it\n"); swept = true }
	:: atomic { sweeper -> printf("the sweeper dies\n"); sweeper = false }
#endif
	od
}

active proctype clients()
{
end:	do
	:: atomic { outcome && !heard -> printf("the client hears the outcome\n"); heard = outcome }
#ifdef NO_FINGERPRINT
	:: atomic { outcome && !heard_by_other ->
		printf("another request hears the outcome\n"); heard_by_other = outcome }
#endif
	od
}

/* A person, about what is parked. Each verb raises the fence (R10). Who settles it has seen what really happened, and
   that no call travels or may begin any more. */
#define CALM(p) (!process[p].intends && !process[p].back)
#define SEEN (state == PARKED && !TRAVELS && CALM(0) && CALM(1))

inline known_by_now(s) { step[s].memo = (step[s].memo > 0 -> step[s].memo : step[s].calls) }

active proctype operator()
{
end:	do
	:: atomic { state == PARKED && fence < CLAIMS ->
		printf("the operator resumes it\n");
		fence++; leased = false; state = (turned -> UNDOING : RUNNING) }
	:: atomic { state == PARKED && fence < CLAIMS && !turned && !pivoted ->
		printf("the operator has it undone\n");
		fence++; leased = false; turned = true; state = UNDOING }
	:: atomic { SEEN && STAND ->
		printf("the operator settles it as done\n");
		fence++; known_by_now(CHARGE); known_by_now(BOOK);
#ifdef SHIPMENT
		known_by_now(SHIP);
#endif
		make_final(DONE, MEMOS) }
	:: atomic { SEEN && GONE -> printf("the operator settles it as undone\n"); fence++; make_final(UNDONE, ALL_UNDONE) }
	od
}

/* Looks on. A line can be taken only where an invariant does not hold; the last one, when nothing moves any more. */
active proctype watch()
{
end:	do
	:: !(heard == 0 || outcome == 0 || heard == outcome) -> CHECK(I1_one_final_outcome, false)
	:: !(ONE_EACH) -> CHECK(I4_one_effect_per_child_key, false)
	:: !(state != DONE || (ONCE && STAND)) -> CHECK(I5_done_means_once_each, false)
	:: !(state != UNDONE || TRAVELS || GONE) -> CHECK(I6_undone_means_nothing_left, false)
	:: !(state != DONE || outcome == MEMOS) -> CHECK(I8_outcome_follows_from_memos, false)
	:: !(step[BOOK].made == (step[BOOK].memo > 0)
		&& step[BOOK].standing == step[BOOK].made - step[BOOK].undone) ->
		CHECK(I10_local_effect_with_its_memo, false)
	:: !(messages == (state == DONE)) -> CHECK(I11_message_with_its_commit, false)
	:: !(heard <= ALL_UNDONE || heard_by_other <= ALL_UNDONE) -> CHECK(I12_never_two_fingerprints, false)
	:: timeout -> CHECK(REST_final_or_parked, FINAL || state == PARKED); break
	od
}

init { atomic { run serve(0); run serve(1) } }

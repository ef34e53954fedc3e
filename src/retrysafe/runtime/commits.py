"""Committing what the application and retrysafe wrote together (R11, R5, I10, I11).

The store's own statement comes last, so that the checkpoint's row is locked as shortly as can be; and what it answers
decides: refused, everything is rolled back. A commit of unknown result is read back (D4).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar, cast

from msgspec.structs import replace

from retrysafe.errors import ConfigurationError, StoreError, StoreUnavailable
from retrysafe.protocol import effects as fx
from retrysafe.protocol.encoding import encode_outcome
from retrysafe.protocol.states import State
from retrysafe.protocol.steps import StepStatus
from retrysafe.runtime.outgoing import outgoing
from retrysafe.runtime.transactions import CommitUnknown
from retrysafe.runtime.values import encode_value
from retrysafe.stores.program import Program, Statement

if TYPE_CHECKING:
    from retrysafe.protocol.model import Checkpoint, Claim, Message
    from retrysafe.protocol.policy import Policy
    from retrysafe.protocol.steps import History, Memo
    from retrysafe.runtime.transactions import AsyncTransaction, AsyncTransactions, Bindings, Transaction, Transactions
    from retrysafe.stores.base import AsyncStore, Store
    from retrysafe.stores.program import Factory

T = TypeVar("T")

_NO_BINDING = (
    "modes with transactions need to know where they come from: pass transactions= to the guard, such as "
    "SQLAlchemyTransactions(engine)"
)


_THREAD_BOUND = (
    "this binding's transactions belong to the thread that opens them, and an async operation runs in several: make "
    "the operation a plain function"
)
_ELSEWHERE = (
    "transactions= leads to another database than the store: give both the same one, or what the application writes "
    "and what retrysafe writes would not be one commit"
)


class Commits:
    """The transactions of one guard, and how they end."""

    def __init__(self, sync: Store, aio: AsyncStore, bindings: Bindings | None, pepper: Callable[[], bytes]) -> None:
        """Take over bindings; each is for threads or for event loops.

        Args:
            sync: the store, for threads.
            aio: the same, for event loops.
            bindings: the application's.
            pepper: returns the store's, by which its database is recognised.
        """
        self._pepper = pepper
        self._verified: set[int] = set()
        self._sync = sync
        self._aio = aio
        several = () if bindings is None else bindings if isinstance(bindings, Sequence) else (bindings,)
        self._plain: Transactions | None = None
        self._async: AsyncTransactions | None = None
        for binding in several:
            if inspect.iscoroutinefunction(binding.begin):
                self._async = cast("AsyncTransactions", binding)
            else:
                self._plain = cast("Transactions", binding)

    @property
    def configured(self) -> bool:
        """Tell whether there is any binding."""
        return self._plain is not None or self._async is not None

    # The operation's own transaction, in mode ``transaction``.

    def begin(self, limit_seconds: float) -> Transaction:
        """Open a transaction from a thread.

        Raises:
            ConfigurationError: there is no binding for threads.
        """
        if self._plain is None:
            raise ConfigurationError([_NO_BINDING])
        open_ = self._plain.begin(limit_seconds)
        if id(self._plain) not in self._verified:
            try:
                self._verify(open_.run(_read_pepper), self._plain)
            except BaseException as error:
                open_.rollback()
                raise _elsewhere(error) from error
        return open_

    async def abegin(self, limit_seconds: float) -> Transaction | AsyncTransaction:
        """Open a transaction from an event loop; without a binding for loops, one for threads is used in a thread.

        Raises:
            ConfigurationError: there is no binding.
        """
        if self._async is not None:
            return await self._abegin(limit_seconds)
        if getattr(self._plain, "thread_bound", False):
            raise ConfigurationError([_THREAD_BOUND])
        opening = _Opening(partial(self.begin, limit_seconds))
        try:
            return await asyncio.to_thread(opening.open)
        except asyncio.CancelledError:
            opening.give_up()
            raise

    async def _abegin(self, limit_seconds: float) -> AsyncTransaction:
        binding = self._async
        if binding is None:
            raise ConfigurationError([_NO_BINDING])
        open_ = await binding.begin(limit_seconds)
        if id(binding) not in self._verified:
            try:
                self._verify(await open_.run(_read_pepper), binding)
            except BaseException as error:
                await open_.rollback()
                raise _elsewhere(error) from error
        return open_

    def _verify(self, found: bytes | None, binding: Transactions | AsyncTransactions) -> None:
        """Make sure, once, that a binding leads to the store's own database (D3).

        Raises:
            ConfigurationError: it leads elsewhere, so that nothing would be one commit.
        """
        if found != self._pepper():
            raise ConfigurationError([_ELSEWHERE])
        self._verified.add(id(binding))

    def commit(self, transaction: Transaction | None, effect: fx.Commit, policy: Policy) -> fx.Receipt | fx.Conflicted:
        """Record the outcome as the last statement, and commit (R11).

        Raises:
            StoreUnavailable: nothing was committed.
            Exception: the database's own; nothing was committed.
        """
        open_ = _there(transaction)
        try:
            receipt = open_.run(self._record(effect, policy))
            if isinstance(receipt, fx.Written):
                open_.commit()
                return receipt
        except CommitUnknown:
            # A fenced write waits for the row that the lost transaction may still hold, and then tells (D4).
            freed = self._sync.run(partial(self._sync.verbs.release, effect.claim))
            return _read_back(effect, freed, self._sync.query(partial(self._sync.verbs.read, effect.claim.digest)))
        except Exception as error:  # noqa: BLE001 - raised again below, unless it may succeed later
            open_.rollback()
            return self._unless_conflicted(self._plain, error)
        except BaseException:
            open_.rollback()
            raise
        open_.rollback()
        return receipt

    async def acommit(
        self, transaction: Transaction | AsyncTransaction | None, effect: fx.Commit, policy: Policy
    ) -> fx.Receipt | fx.Conflicted:
        """Record and commit like :meth:`commit`, without blocking the loop."""
        if not _is_async(transaction):
            return await asyncio.to_thread(self.commit, cast("Transaction | None", transaction), effect, policy)
        open_ = cast("AsyncTransaction", transaction)
        try:
            receipt = await open_.run(self._record(effect, policy))
            if isinstance(receipt, fx.Written):
                await open_.commit()
                return receipt
        except CommitUnknown:
            freed = await self._aio.arun(partial(self._aio.verbs.release, effect.claim))
            return _read_back(effect, freed, await self._aio.aquery(partial(self._aio.verbs.read, effect.claim.digest)))
        except Exception as error:  # noqa: BLE001 - raised again below, unless it may succeed later
            await open_.rollback()
            return self._unless_conflicted(self._async, error)
        except BaseException:
            await open_.rollback()
            raise
        await open_.rollback()
        return receipt

    def roll_back(self, transaction: Transaction | None, error: Exception | None) -> bool:
        """Roll back; tell whether running again may succeed."""
        if transaction is not None:
            transaction.rollback()
        return error is not None and self._plain is not None and self._plain.conflicted(error)

    async def aroll_back(self, transaction: Transaction | AsyncTransaction | None, error: Exception | None) -> bool:
        """Roll back like :meth:`roll_back`, without blocking the loop."""
        if not _is_async(transaction):
            return await asyncio.to_thread(self.roll_back, cast("Transaction | None", transaction), error)
        await cast("AsyncTransaction", transaction).rollback()
        return error is not None and self._async is not None and self._async.conflicted(error)

    # Local steps, in mode ``steps``.

    def transact(
        self, policy: Policy, claim: Claim, memo: Memo, effect: Callable[[Any], Any]
    ) -> Memo | fx.Superseded | fx.NotKnown | fx.Failed:
        """Run a local step: its effect, its memo and its messages in one commit (R5, I10, I11).

        Args:
            policy: bounds the transaction.
            claim: the right to.
            memo: what to write, but for the result.
            effect: the step's function; it receives what the binding gives to work with, and returns the result.
        """
        messages: list[Message] = []
        open_, done = None, memo
        token = outgoing.set(messages)
        try:
            open_ = self.begin(policy.transaction_seconds)
            done = _done(claim, memo, effect(open_.handle))
            receipt = open_.run(partial(self._sync.verbs.memoize, claim, done, tuple(messages)))
            if isinstance(receipt, fx.Written):
                open_.commit()
                return done
        except CommitUnknown as error:
            try:
                self._sync.run(partial(self._sync.verbs.memoize, claim, memo))
                history = self._sync.query(partial(self._sync.verbs.trail, claim.digest))
            except StoreError:
                return fx.NotKnown()
            return _found(history, done) or fx.Failed(error)
        except Exception as error:  # noqa: BLE001 - the flow decides what it means
            _roll_back(open_)
            return fx.Failed(error)
        except BaseException:
            # Cut off: nothing of it may stay open.
            _roll_back(open_)
            raise
        finally:
            outgoing.reset(token)
        open_.rollback()
        return receipt

    async def atransact(
        self, policy: Policy, claim: Claim, memo: Memo, effect: Callable[[Any], Any]
    ) -> Memo | fx.Superseded | fx.NotKnown | fx.Failed:
        """Run a local step like :meth:`transact`, without blocking the loop."""
        if self._async is None:
            return await asyncio.to_thread(self.transact, policy, claim, memo, effect)
        messages: list[Message] = []
        open_, done = None, memo
        token = outgoing.set(messages)
        try:
            open_ = await self._abegin(policy.transaction_seconds)
            value = effect(open_.handle)
            done = _done(claim, memo, await value if inspect.isawaitable(value) else value)
            receipt = await open_.run(partial(self._aio.verbs.memoize, claim, done, tuple(messages)))
            if isinstance(receipt, fx.Written):
                await open_.commit()
                return done
        except CommitUnknown as error:
            try:
                await self._aio.arun(partial(self._aio.verbs.memoize, claim, memo))
                history = await self._aio.aquery(partial(self._aio.verbs.trail, claim.digest))
            except StoreError:
                return fx.NotKnown()
            return _found(history, done) or fx.Failed(error)
        except Exception as error:  # noqa: BLE001 - the flow decides what it means
            if open_ is not None:
                await open_.rollback()
            return fx.Failed(error)
        except BaseException:
            # Cut off: nothing of it may stay open.
            if open_ is not None:
                await open_.rollback()
            raise
        finally:
            outgoing.reset(token)
        await open_.rollback()
        return receipt

    def _record(self, effect: fx.Commit, policy: Policy) -> Factory[fx.Receipt]:
        return partial(
            self._sync.verbs.record,
            effect.claim,
            encode_outcome(effect.outcome, policy.compression),
            retention_seconds=policy.retention_seconds,
            tombstone_seconds=policy.tombstone_seconds,
            messages=effect.messages,
        )

    @staticmethod
    def _unless_conflicted(binding: Transactions | AsyncTransactions | None, error: Exception) -> fx.Conflicted:
        if binding is not None and binding.conflicted(error):
            return fx.Conflicted()
        raise error


class _Opening:
    """A transaction that a thread opens for an event loop; if nobody waits for it any more, it is rolled back."""

    def __init__(self, begin: Callable[[], Transaction]) -> None:
        self._begin = begin
        self._door = Lock()
        self._opened: Transaction | None = None
        self._wanted = True

    def open(self) -> Transaction:
        """Open it, in a thread."""
        opened = self._begin()
        with self._door:
            self._opened, wanted = opened, self._wanted
        if not wanted:
            opened.rollback()
        return opened

    def give_up(self) -> None:
        """Have it rolled back in a thread: in the one that opens it, or if that is done, in another one."""
        with self._door:
            self._wanted, opened = False, self._opened
        if opened is not None:
            asyncio.get_running_loop().run_in_executor(None, opened.rollback)


def _read_pepper() -> Program[bytes | None]:
    """Read by what a store's database is recognised (K4)."""
    answer = yield Statement("SELECT pepper FROM retrysafe_meta")
    return bytes(answer.rows[0][0]) if answer.rows else None


def _elsewhere(error: BaseException) -> BaseException:
    """Take a database without our tables for what it is: another one."""
    if isinstance(error, ConfigurationError) or "retrysafe_meta" not in str(error):
        return error
    return ConfigurationError([_ELSEWHERE])


def _there(transaction: Transaction | None) -> Transaction:
    if transaction is None:
        raise ConfigurationError([_NO_BINDING])
    return transaction


def _is_async(transaction: Transaction | AsyncTransaction | None) -> bool:
    return transaction is not None and inspect.iscoroutinefunction(transaction.commit)


def _roll_back(transaction: Transaction | None) -> None:
    if transaction is not None:
        transaction.rollback()


def _done(claim: Claim, memo: Memo, value: object) -> Memo:
    return replace(memo, status=StepStatus.DONE, value=encode_value(value), fence=claim.fence)


def _read_back(effect: fx.Commit, freed: fx.Receipt, met: Checkpoint | None) -> fx.Receipt:
    """Tell what became of a commit whose connection died."""
    if isinstance(freed, fx.Written):
        raise StoreUnavailable("the connection died before the commit; nothing happened, and the key is free again")
    ours = met is not None and met.operation_id == effect.claim.operation_id and met.fence == effect.claim.fence
    return fx.Written() if ours and met is not None and met.state is State.DONE else fx.Superseded()


def _found(history: History | None, wanted: Memo) -> Memo | None:
    """Return the memo of a commit whose connection died, if it became durable under our fence."""
    if history is None:
        return None
    place, fence = wanted.place, wanted.fence
    done = (memo for memo in history.memos if memo.status is StepStatus.DONE and memo.fence == fence)
    return next((memo for memo in done if memo.place == place), None)

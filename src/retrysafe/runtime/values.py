"""What steps return and are called with, as bytes in a memo and back: JSON by msgspec, typed by annotations.

A value always makes the way through its encoding, in the first attempt too. So what the operation's code sees is the
same in every attempt, and a result that cannot be kept is noticed at once (I8).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, get_type_hints

import msgspec

from retrysafe.protocol.model import Response


def encode_value(value: object) -> bytes:
    """Encode a value.

    Raises:
        TypeError: it is nothing that JSON, msgspec or pydantic can express.
    """
    return msgspec.json.encode(value, enc_hook=_encode_other)


def decode_value(record: bytes, wanted: Any = Any) -> Any:  # noqa: ANN401 - as typed as ``wanted`` is
    """Decode a value as an annotation wants it; unannotated it is plain JSON.

    Raises:
        msgspec.ValidationError: it does not fit the annotation: the code changed since it was kept.
    """
    plain = msgspec.json.decode(record)
    return plain if wanted is Any else msgspec.convert(plain, wanted, strict=False, dec_hook=_decode_other)


def decode_result(function: Callable[..., Any], record: bytes | None) -> Any:  # noqa: ANN401 - as the annotation says
    """Decode what a function returned, as its return annotation wants it; None when nothing is known."""
    return None if record is None else decode_value(record, hints(function).get("return", Any))


def decode_arguments(function: Callable[..., Any], record: bytes | None, *, skip: int) -> list[Any]:
    """Decode arguments as a function's annotations want them.

    Args:
        function: what is called with them.
        record: the encoded arguments; None is none.
        skip: how many leading parameters are not among them.
    """
    args: list[Any] = [] if record is None else msgspec.json.decode(record)
    wanted = hints(function)
    names = list(inspect.signature(function).parameters)[skip:]
    typed = [_typed(value, wanted.get(name, Any)) for name, value in zip(names, args, strict=False)]
    return [*typed, *args[len(typed) :]]


@lru_cache(maxsize=1024)
def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return a function's annotations; those that cannot be resolved count as none."""
    try:
        return get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}


def _typed(value: Any, wanted: Any) -> Any:  # noqa: ANN401 - as typed as ``wanted`` is
    if wanted is Any or wanted is None:
        return value
    return msgspec.convert(value, wanted, strict=False, dec_hook=_decode_other)


def _encode_other(value: object) -> object:
    """Encode pydantic models, and responses by their status and body."""
    if isinstance(value, Response):
        raise TypeError("a step returns values, not a Response: return what the operation needs to make one")
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    raise TypeError(f"{type(value).__name__} cannot be kept: return JSON values, a dataclass, a struct or a model")


def _decode_other(wanted: type, value: object) -> object:
    validate = getattr(wanted, "model_validate", None)
    if validate is not None:
        return validate(value)
    raise TypeError(f"{wanted.__name__} cannot be made from JSON: annotate with a dataclass, a struct or a model")

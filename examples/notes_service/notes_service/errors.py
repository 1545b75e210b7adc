"""What each error of the store means over HTTP. The routes raise and catch nothing of it."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from thea_store import (
    ConflictError,
    DuplicateError,
    InvalidArgumentError,
    InvalidReferenceError,
    InvalidTenantError,
    NotFoundError,
    OutcomeUnknownError,
    PoolTimeoutError,
    QueryTimeoutError,
    StoreError,
    StoreUnavailableError,
)

__all__ = ["install"]

_STATUSES: dict[type[StoreError], HTTPStatus] = {
    NotFoundError: HTTPStatus.NOT_FOUND,
    InvalidTenantError: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidArgumentError: HTTPStatus.UNPROCESSABLE_ENTITY,
    # The URL is right, what its body refers to is not there.
    InvalidReferenceError: HTTPStatus.UNPROCESSABLE_ENTITY,
    DuplicateError: HTTPStatus.CONFLICT,
    ConflictError: HTTPStatus.CONFLICT,
    PoolTimeoutError: HTTPStatus.SERVICE_UNAVAILABLE,
    QueryTimeoutError: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    # Not 503 nor 504, which clients and proxies repeat by themselves: that might write twice.
    OutcomeUnknownError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_RETRY_AFTER = {"Retry-After": "1"}
# What is told of the errors whose own words are the operator's: they name hosts and settings.
_BUSY = "nothing was saved: try again in a moment"
_UNKNOWN = "it may or may not have been saved: look before you try again"


def install(app: FastAPI) -> None:
    """Answer every error of the store that a caller can do something about."""
    app.add_exception_handler(StoreError, _answer)


async def _answer(request: Request, error: Exception) -> JSONResponse:
    del request
    match _status(error):
        case None:
            raise error  # a fault of ours: logged with its traceback, answered by a bare 500
        case HTTPStatus.SERVICE_UNAVAILABLE as status:
            return JSONResponse({"detail": _BUSY}, status, _RETRY_AFTER)
        case HTTPStatus.INTERNAL_SERVER_ERROR as status:
            return JSONResponse({"detail": _UNKNOWN}, status)
        case status:
            return JSONResponse({"detail": str(error), **_particulars(error)}, status)


def _status(error: Exception) -> HTTPStatus | None:
    if isinstance(error, StoreError) and error.repeatable:
        return HTTPStatus.SERVICE_UNAVAILABLE
    return next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), None)


def _particulars(error: Exception) -> dict[str, object]:
    match error:
        case InvalidArgumentError():
            return {"argument": error.argument}
        case DuplicateError():
            return {"fields": error.fields}
    return {}

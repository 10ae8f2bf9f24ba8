"""Tables of cheap checks: one test that loops over the rows, and names the row that fails."""

import functools
import inspect
import reprlib

_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = 200


def for_each(names, rows):
    """Like `pytest.mark.parametrize`, but one test for the whole table.

    For checks of a value that need nothing of their own: fixtures are made once for all rows.

    Arguments:
        names: the parameter that each row is given to, or a tuple of them, for rows of as many.
        rows: at least one.
    """
    rows = list(rows)
    if not rows:
        raise ValueError("a table without rows checks nothing")
    names, rows = ((names,), [(row,) for row in rows]) if isinstance(names, str) else (names, rows)

    def decorate(check):
        @functools.wraps(check)
        def check_all(**others):
            for number, row in enumerate(rows):
                values = dict(zip(names, row, strict=True))
                try:
                    check(**others, **values)
                except BaseException as error:
                    error.add_note(f"in row {number} of the table: {_shown(values)}")
                    raise

        signature = inspect.signature(check)
        others = [each for name, each in signature.parameters.items() if name not in names]
        check_all.__signature__ = signature.replace(parameters=others)
        return check_all

    return decorate


def _shown(values):
    return ", ".join(f"{name}={_repr(value)}" for name, value in values.items())


def _repr(value):
    try:
        return _shorten.repr(value)
    except Exception:
        return f"<{type(value).__name__}>"

"""An exercise's check, tried on a reader's answer."""

import functools
import traceback

import torch


def check(name: str):
    """Decorator for an exercise's check, a function of the reader's answer that asserts.

    Called, the check then prints "passed", or "not yet" and why. It draws the same random numbers
    each time, and none of the notebook's.
    """

    def decorate(asserts):
        @functools.wraps(asserts)
        def attempt(answer):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                why = _complaint(asserts, answer)
            print(f"not yet: {name}: {why}" if why else f"passed: {name}")

        attempt.exercise = name
        return attempt

    return decorate


def _complaint(asserts, answer) -> str:
    """Why the answer does not pass; empty if it does."""
    try:
        asserts(answer)
    except NotImplementedError:
        return "the stub is still empty"
    except AssertionError as error:
        failed = traceback.extract_tb(error.__traceback__)[-1]
        return str(error) or f"this does not hold: {failed.line}"
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        home = answer.__code__.co_filename if hasattr(answer, "__code__") else None
        frame = next((frame for frame in reversed(frames) if frame.filename == home), frames[-1])
        return f"{type(error).__name__}: {error} (line {frame.lineno}: {frame.line})"
    return ""

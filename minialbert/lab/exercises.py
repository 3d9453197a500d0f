"""An exercise's check, tried on a reader's answer."""

import traceback


def check(name: str):
    """Decorator that names an exercise's check: a function of the reader's answer that asserts."""

    def named(function):
        function.exercise = name
        return function

    return named


def try_check(exercise, answer) -> bool:
    """Tries a check on the reader's function or value; prints "passed", or "not yet" and why."""
    try:
        exercise(answer)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        home = answer.__code__.co_filename if hasattr(answer, "__code__") else None
        frame = next((frame for frame in reversed(frames) if frame.filename == home), frames[-1])
        match error:
            case NotImplementedError():
                why = "the stub is still empty"
            case AssertionError():
                why = str(error) or f"this does not hold: {frames[-1].line}"
            case _:
                why = f"{type(error).__name__}: {error} (line {frame.lineno}: {frame.line})"
        print(f"not yet: {exercise.exercise}: {why}")
        return False
    print(f"passed: {exercise.exercise}")
    return True

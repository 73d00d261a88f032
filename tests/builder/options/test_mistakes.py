"""The messages for mistakes are those that were reviewed."""

from __future__ import annotations

from tests.builder.messages.mistakes import SNAPSHOT, sections, snapshot


def test_messages_are_those_that_were_reviewed():
    """After an improvement, run python -m tests.builder.messages.mistakes, and read the difference."""
    assert snapshot() == SNAPSHOT.read_text(encoding="utf-8")


def test_every_mistake_is_refused_with_a_message_and_is_unique():
    mistakes = [mistake for section in sections().values() for mistake in section]
    assert len({mistake.what for mistake in mistakes}) == len(mistakes) >= 40
    text = SNAPSHOT.read_text(encoding="utf-8")
    assert "[exit status 0]" not in text
    assert "Traceback" not in text
    assert text.count("[exit status ") == len(mistakes)

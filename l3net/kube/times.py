"""Times of the Kubernetes API as texts that compare as times do."""

from __future__ import annotations

from datetime import UTC, datetime

from l3net.kube.fields import Field, shown


def created(metadata: Field) -> str:
    """When the API server made the object, in UTC, so that texts compare as times do; "": it is not said.

    Who is older keeps an address and port: what is no time makes nobody older.
    """
    field = metadata["creationTimestamp"]
    return next(iter(field.alone(moment)), "") if field.present else ""


def moment(field: Field) -> str:
    """RFC 3339, as metav1.Time; the API server writes whole seconds and Z."""
    text = field.text()
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None or len(text) < len("2006-01-02T15:04:05Z"):
            raise ValueError(text)
        return found.astimezone(UTC).isoformat()[: len("2006-01-02T15:04:05")] + "Z"
    except (ValueError, OverflowError):
        raise field.wrong(f"{shown(text)!r} is not a time (such as 2006-01-02T15:04:05Z)") from None

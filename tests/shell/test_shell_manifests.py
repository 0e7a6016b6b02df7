"""The directory datastore: what it says first, and what it says when files change."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from l3net.errors import ConfigError
from l3net.model import IpPool, Kind, Namespace, ObjectName, Pod, Policy
from l3net.ports import Changed, DatastoreEvent, InSync, Mended, Rejected
from l3net.shell.manifests import watch as directory_watch
from l3net.shell.manifests.documents import is_manifest
from l3net.shell.manifests.store import DirectoryDatastore
from l3net.shell.manifests.watch import DirectoryWatch, Look

PATIENCE = 20.0  # seconds before a test gives up; nothing is decided by it


def namespace(name: str, **labels: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})


def changed(name: str, **labels: str) -> Changed:
    return Changed(Kind.NAMESPACE, ObjectName("", name), Namespace(name, labels))


def gone(name: str) -> Changed:
    return Changed(Kind.NAMESPACE, ObjectName("", name), None)


def pool(name: str, cidr: str) -> str:
    spec = {"cidr": cidr}
    return json.dumps(
        {"apiVersion": "l3net.io/v1alpha1", "kind": "IPPool", "metadata": {"name": name}, "spec": spec}
    )


def put(path: Path, text: str) -> None:
    """As careful writers do: a temporary name, then a rename."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


class Heard:
    """A datastore that is being followed."""

    def __init__(self, path: Path, rescan: float) -> None:
        self._events = DirectoryDatastore(path, rescan=rescan).events()

    async def next(self) -> DatastoreEvent:
        return await asyncio.wait_for(anext(self._events), PATIENCE)

    async def first(self) -> list[DatastoreEvent]:
        found: list[DatastoreEvent] = []
        while not isinstance(event := await self.next(), InSync):
            found.append(event)
        return found

    async def close(self) -> None:
        await self._events.aclose()  # type: ignore[attr-defined]


def follow(path: Path, story: Callable[[Heard], Awaitable[None]], rescan: float = 3600.0) -> None:
    async def run() -> None:
        heard = Heard(path, rescan)
        try:
            await story(heard)
        finally:
            await heard.close()

    asyncio.run(run())


def test_empty_directory_is_in_sync_at_once(tmp_path: Path) -> None:
    async def story(heard: Heard) -> None:
        assert await heard.first() == []

    follow(tmp_path, story)


def test_missing_directory_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not exist: create it, or name another"):
        DirectoryDatastore(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not a directory"):
        DirectoryDatastore(tmp_path / "file")


def test_first_scan_then_only_what_really_changed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(namespace("one") + "\n---\n" + namespace("two"))
    (tmp_path / "b.json").write_text(namespace("three"))
    (tmp_path / "notes.txt").write_text("not for us")
    (tmp_path / ".hidden.yaml").write_text("{")

    async def story(heard: Heard) -> None:
        first = await heard.first()
        assert sorted(first, key=str) == sorted([changed("one"), changed("two"), changed("three")], key=str)
        put(tmp_path / "a.yaml", namespace("one") + "\n---\n# words\n" + namespace("two", a="b"))
        assert await heard.next() == changed("two", a="b")  # and nothing about `one`
        (tmp_path / "b.json").unlink()
        assert await heard.next() == gone("three")
        (tmp_path / "c.yml").write_text(namespace("four"))
        assert await heard.next() == changed("four")
        (tmp_path / "c.yml").rename(tmp_path / "d.yml")  # the same objects under another name
        put(tmp_path / "e.yaml", namespace("end"))
        assert await heard.next() == changed("end")

    follow(tmp_path, story)


def test_a_bad_object_keeps_its_last_good_version(tmp_path: Path) -> None:
    file = tmp_path / "pools.yaml"
    file.write_text(pool("a", "10.1.0.0/16") + "\n---\n" + pool("b", "10.2.0.0/16"))

    async def story(heard: Heard) -> None:
        assert len(await heard.first()) == 2
        put(file, pool("a", "10.9.0.1/16") + "\n---\n" + pool("b", "10.3.0.0/16"))
        events = [await heard.next(), await heard.next()]
        [rejected] = [event for event in events if isinstance(event, Rejected)]
        [change] = [event for event in events if isinstance(event, Changed)]
        assert str(rejected) == (
            f"{file}:1 (document 1) IPPool a: spec.cidr: "
            "10.9.0.1/16 has bits set beyond its prefix length; 10.9.0.0/16?"
        )
        assert isinstance(change.fact, IpPool)
        assert change.fact.name == "b"
        # Said once: another change to the file does not repeat it.
        put(file, pool("a", "10.9.0.1/16") + "\n---\n" + pool("b", "10.4.0.0/16"))
        assert isinstance(event := await heard.next(), Changed)
        assert str(getattr(event.fact, "cidr", "")) == "10.4.0.0/16"
        # Put right, then wrong again: said again.
        put(file, pool("a", "10.9.0.0/16") + "\n---\n" + pool("b", "10.4.0.0/16"))
        assert await heard.next() == Mended(rejected)
        assert isinstance(await heard.next(), Changed)
        put(file, pool("a", "10.9.0.1/16") + "\n---\n" + pool("b", "10.4.0.0/16"))
        assert await heard.next() == rejected
        # Gone with its document, although it was wrong last.
        put(file, pool("b", "10.4.0.0/16"))
        assert await heard.next() == Mended(rejected)
        assert await heard.next() == Changed(Kind.IP_POOL, ObjectName("", "a"), None)

    follow(tmp_path, story)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{{", ":1: is not YAML"),
        ("- a", ":1: document 1 is not an object"),
        (
            '{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": 5}}',
            ":1: metadata.name: must be a string",
        ),
    ],
)
def test_a_broken_file_takes_nothing_away(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.yaml").write_text(namespace("one") + "\n---\n" + namespace("two"))

    async def story(heard: Heard) -> None:
        await heard.first()
        put(tmp_path / "a.yaml", text)
        rejected = await heard.next()
        assert isinstance(rejected, Rejected)
        assert str(rejected).startswith(f"{tmp_path}/a.yaml{said}")
        put(tmp_path / "a.yaml", namespace("one"))
        assert await heard.next() == Mended(rejected)
        assert await heard.next() == gone("two")

    follow(tmp_path, story)


def test_the_first_file_by_name_wins(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(namespace("one", v="a"))
    (tmp_path / "b.yaml").write_text(namespace("one", v="b"))

    async def story(heard: Heard) -> None:
        first, rejected = await heard.first()
        assert first == changed("one", v="a")
        assert str(rejected) == (
            f"{tmp_path}/b.yaml:1: metadata.name: "
            f"Namespace one is already in {tmp_path}/a.yaml:1, which holds"
        )
        assert isinstance(rejected, Rejected)
        (tmp_path / "a.yaml").unlink()
        assert await heard.next() == Mended(rejected)
        assert await heard.next() == changed("one", v="b")
        put(tmp_path / "a.yaml", namespace("one", v="a2"))
        assert await heard.next() == changed("one", v="a2")
        assert await heard.next() == rejected

    follow(tmp_path, story)


def test_twice_in_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(namespace("one", v="1") + "\n---\n" + namespace("one", v="2"))

    async def story(heard: Heard) -> None:
        rejected, first = sorted(await heard.first(), key=lambda event: isinstance(event, Changed))
        assert first == changed("one", v="1")
        assert isinstance(rejected, Rejected)
        assert rejected.where.endswith("a.yaml:3 (document 2)")

    follow(tmp_path, story)


def test_configmap_mounts(tmp_path: Path) -> None:
    """Kubernetes turns the link ..data; the entries are links through it and do not change themselves."""

    def mount(version: str, *names: str) -> None:
        (tmp_path / f"..{version}").mkdir()
        for name in names:
            (tmp_path / f"..{version}" / f"{name}.yaml").write_text(namespace(name, v=version))
        (tmp_path / "..data_tmp").symlink_to(f"..{version}")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    mount("1", "one", "two")
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")

    async def story(heard: Heard) -> None:
        assert await heard.first() == [changed("one", v="1"), changed("two", v="1")]
        mount("2", "one")
        events = [await heard.next(), await heard.next()]
        assert sorted(events, key=str) == sorted([changed("one", v="2"), gone("two")], key=str)

    follow(tmp_path, story)


def test_the_directory_replaced(tmp_path: Path) -> None:
    place, other = tmp_path / "place", tmp_path / "other"
    place.mkdir()
    other.mkdir()
    (place / "a.yaml").write_text(namespace("one"))
    (other / "a.yaml").write_text(namespace("two"))

    async def story(heard: Heard) -> None:
        assert await heard.first() == [changed("one")]
        place.rename(tmp_path / "old")
        rejected = await heard.next()
        assert isinstance(rejected, Rejected)
        assert "the last state stays in force" in rejected.why
        other.rename(place)
        assert await heard.next() == Mended(rejected)
        assert await heard.next() == gone("one")
        assert await heard.next() == changed("two")
        put(place / "a.yaml", namespace("two", a="b"))  # and it is the new one that is followed
        assert await heard.next() == changed("two", a="b")

    follow(place, story)


def test_a_link_to_the_directory_turned(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(namespace(name))
    (tmp_path / "place").symlink_to("one")

    async def story(heard: Heard) -> None:
        assert await heard.first() == [changed("one")]
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").rename(tmp_path / "place")
        assert {str(await heard.next()), str(await heard.next())} == {str(gone("one")), str(changed("two"))}
        put(tmp_path / "two" / "a.yaml", namespace("two", a="b"))
        assert await heard.next() == changed("two", a="b")

    follow(tmp_path / "place", story)


def test_a_file_half_written_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(namespace("one") + "\n---\n" + namespace("two"))

    async def story(heard: Heard) -> None:
        await heard.first()
        with (tmp_path / "a.yaml").open("w") as file:  # truncated in place: for now it says nothing
            file.write(namespace("one", a="b"))
            file.flush()
            put(tmp_path / "z.yaml", namespace("meanwhile"))
            assert await heard.next() == changed("meanwhile")  # and not that `two` is gone
            file.write("\n---\n" + namespace("two"))
        assert await heard.next() == changed("one", a="b")
        put(tmp_path / "z.yaml", namespace("meanwhile", a="b"))
        assert await heard.next() == changed("meanwhile", a="b")

    follow(tmp_path, story)


def test_what_comes_alone_is_told_at_once_and_a_burst_in_one(tmp_path: Path) -> None:
    async def story(quiet: float) -> list[Look]:
        watch = DirectoryWatch(tmp_path, relevant=is_manifest, quiet=quiet, rescan=1e9)
        async with watch:
            put(tmp_path / "a.yaml", namespace("one"))
            looks = [await asyncio.wait_for(watch.changes(), 60)]  # that nothing is waited for, not how long
            for name in ("b.yaml", "c.yaml", "d.yaml"):
                put(tmp_path / name, namespace("two"))
            with contextlib.suppress(TimeoutError):
                looks.append(await asyncio.wait_for(watch.changes(), 10 if quiet == 1 else 1))
        return looks

    alone = Look(frozenset({"a.yaml"}))  # and not everything: a temporary file is no reason to look at all
    assert asyncio.run(story(quiet=1e9)) == [alone]
    assert asyncio.run(story(quiet=1)) == [alone, Look(frozenset({"b.yaml", "c.yaml", "d.yaml"}))]


def test_a_burst_larger_than_one_read_is_told_whole(tmp_path: Path) -> None:
    names = frozenset(f"{number:03}-{'é' * 100}.yaml" for number in range(150))

    async def story() -> Look:
        async with DirectoryWatch(tmp_path, relevant=is_manifest, quiet=0.0, rescan=1e9) as watch:
            for name in names:
                put(tmp_path / name, namespace("one"))
            return await asyncio.wait_for(watch.changes(), PATIENCE)

    assert asyncio.run(story()) == Look(names)


def test_missed_events_are_caught_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_watch.DirectoryWatch, "_take", lambda *_: None)
    (tmp_path / "a.yaml").write_text(namespace("one"))

    async def story(heard: Heard) -> None:
        await heard.first()
        put(tmp_path / "a.yaml", namespace("one", a="b"))
        assert await heard.next() == changed("one", a="b")

    follow(tmp_path, story, rescan=0.05)


def test_without_inotify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(**_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(directory_watch, "Inotify", none_left)

    async def story(heard: Heard) -> None:
        await heard.first()
        put(tmp_path / "a.yaml", namespace("one"))
        assert await heard.next() == changed("one")

    follow(tmp_path, story)


def test_an_unreadable_entry(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "dangling.yaml").symlink_to("nowhere")
    (tmp_path / "good.yaml").write_text(namespace("one"))

    async def story(heard: Heard) -> None:
        events = await heard.first()
        assert changed("one") in events
        [rejected] = [event for event in events if isinstance(event, Rejected)]
        assert str(rejected) == f"{tmp_path}/pipe.yaml: is not a regular file"

    follow(tmp_path, story)


def test_a_large_file_is_read_aside(tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(6000)]
    (tmp_path / "a.json").write_text(
        json.dumps(
            {"apiVersion": "v1", "kind": "List", "items": [json.loads(namespace(name)) for name in names]}
        )
        + " " * 1_000_000
    )

    async def story(heard: Heard) -> None:
        assert len(await heard.first()) == len(names)

    follow(tmp_path, story)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    (tmp_path / "a.json").write_text(json.dumps({**secret, "stringData": {"password": "canary"}}))
    (tmp_path / "b.json").write_text(json.dumps({**secret, "data": {"password": "%canary%"}}))

    async def story(heard: Heard) -> None:
        events = await heard.first()
        assert len(events) == 2
        assert "canary" not in repr(events)

    follow(tmp_path, story)


def test_pods_and_policies(tmp_path: Path) -> None:
    """A policy that becomes wrong stays as it was, and one that was never right takes nothing down."""
    pod = """
        apiVersion: v1
        kind: Pod
        metadata: {name: a, namespace: shop, labels: {x: y}}
        spec: {nodeName: n1}
    """
    policy = """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: %s}
        spec: {ingress: %s}
    """
    put(tmp_path / "pods.yaml", pod)
    put(tmp_path / "policies.yaml", policy % ("good", "[{}]") + "\n---\n" + policy % ("wrong", "5"))

    async def story(heard: Heard) -> None:
        first = await heard.first()
        told = {event.name.name: event.fact for event in first if isinstance(event, Changed)}
        assert isinstance(told["a"], Pod)
        assert (told["a"].labels, told["a"].node, told["a"].addresses) == ({"x": "y"}, "n1", ())
        assert isinstance(told["good"], Policy)
        assert "wrong" not in told
        [rejected] = [event for event in first if isinstance(event, Rejected)]
        assert rejected.about == (Kind.NETWORK_POLICY, ObjectName("default", "wrong"))
        put(tmp_path / "policies.yaml", policy % ("good", "7"))
        said = [await heard.next() for _ in range(2)]
        assert sorted(type(event).__name__ for event in said) == ["Mended", "Rejected"], "it stays in force"
        put(tmp_path / "policies.yaml", policy % ("good", "[]"))
        said = [await heard.next() for _ in range(2)]
        [fact] = [event.fact for event in said if isinstance(event, Changed)]
        assert isinstance(fact, Policy)
        assert fact.ingress == ()

    follow(tmp_path, story)

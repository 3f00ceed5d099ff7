"""A file that is damaged, foreign or forged is refused, and writing one fails without a trace."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save as as_bytes

from solver_nas import Network, concat, delta_nout, nn
from solver_nas.errors import StoreError
from solver_nas.frontend import Array
from solver_nas.nn.store import _checksum


def network() -> Network:
    """A residual, a concatenation, an array that two layers share, statistics."""
    net = Network(seed=1)
    x = nn.dense(net.input("in", 4), 6, activation="tanh", name="x")
    square = nn.dense(2 * x + x, 6, name="square")
    again = net.add("dense", "again", [square], {"activation": "relu"}, keys={"weight": "square.weight"})
    net.output(nn.dense(concat([again, square], name="both"), 3, name="out"))
    nn.calibrate(net, np.ones((2, 4)), held_back=0)
    return net


def state(net: Network) -> object:
    """Everything, to be compared."""
    arrays = {key: (array.dtype, array.shape, array.tobytes()) for key, array in net.arrays.items()}
    rest = (net.dtype, net.history, net._state.fills, net._state.memory, str(net.rng.bit_generator.state))
    return list(net.graph.digraph.nodes), net.graph.vertices, net.graph.outputs, arrays, repr(net.observers), rest


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with a network in it."""
    network().save(tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


# -- files that are no network -----------------------------------------------------------------


def refused(file: Path, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        Network.load(file)
    assert repr(str(file)) in str(caught.value)


def read(file: Path) -> tuple[dict[str, Array], dict[str, str]]:
    with safe_open(file, framework="numpy") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118


def forged(file: Path, change: Callable[[dict[str, Any], dict[str, Array]], object]) -> None:
    """Change structure and tensors, and make the checksum fit."""
    tensors, metadata = read(file)
    document = json.loads(metadata["structure"])
    change(document, tensors)
    structure = json.dumps(document)
    there = {name: tensors[name] for name in document.get("tensors", {}) if name in tensors}
    metadata |= {"structure": structure, "checksum": _checksum(structure, there)}
    file.write_bytes(as_bytes(tensors, metadata))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Network.load(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError):
        Network.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        network().save(tmp_path / "nowhere" / "net")
    with pytest.raises(IsADirectoryError):
        network().save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{}", b"a text\n" * 9, b"PK\x03\x04" + bytes(90), bytes(100)),
        *((2**60).to_bytes(8, "little") + bytes(90), (2**64 - 1).to_bytes(8, "little") + bytes(90)),
        (60).to_bytes(8, "little") + b'{"a":{"dtype":"F64","shape":[1000000000000],"data_offsets":[0,8000000000000]}}',
    ],
)
def test_files_of_another_format(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    refused(file, "it is not a whole safetensors file .*; the file is damaged or was changed; take another copy")


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"version": "1"}])
def test_safetensors_of_others(metadata: dict[str, str] | None, file: Path) -> None:
    file.write_bytes(as_bytes({"weight": np.zeros((2, 3))}, metadata))
    refused(file, "it is a safetensors file of another kind; only files made by `save` hold a network")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "2"}, r"made by a newer version of solver_nas \(its format is 2, .* up to 1\); update solver_nas"),
        ({"version": "9" * 5000}, "made by a newer version"),
        ({"version": "0"}, "its version is 0, the first one is 1; the file is damaged"),
        ({"version": "one"}, "its version is 'one', which is no number"),
        ({"version": "²"}, "which is no number"),
        ({"checksum": "0" * 64}, "its checksum does not fit its content; the file is damaged"),
        ({"structure": "{"}, "its structure is not JSON .*; the file is damaged"),
        ({"structure": '{"dtype": NaN}'}, "NaN is not JSON"),
        ({"structure": "[" * 100_000}, "its structure is not JSON"),
        ({"structure": "[]"}, "does not say which tensors there are; the file is damaged"),
    ],
)
def test_metadata_that_was_changed(changes: dict[str, str], message: str, file: Path) -> None:
    tensors, metadata = read(file)
    file.write_bytes(as_bytes(tensors, metadata | changes))
    refused(file, message)


@pytest.mark.parametrize("key", ["structure", "checksum", "version"])
def test_metadata_that_is_missing(key: str, file: Path) -> None:
    tensors, metadata = read(file)
    del metadata[key]
    file.write_bytes(as_bytes(tensors, metadata))
    refused(file, f"{key}.*; the file is damaged")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (None, r"the tensors \['arrays/x.bias'\] are missing; the file is damaged"),
        (np.zeros(7), r"'arrays/x.bias' is F64 of shape \(7,\), its structure says F64 of shape \(6,\); the file"),
        (np.zeros(6, np.float32), r"'arrays/x.bias' is F32 of shape \(6,\), its structure says F64"),
        (np.full(6, 1e-300), "its checksum does not fit its content"),
    ],
)
def test_tensors_that_were_changed(array: Array | None, message: str, file: Path) -> None:
    tensors, metadata = read(file)
    tensors["arrays/x.bias"] = np.zeros(6) if array is None else array
    if array is None:
        del tensors["arrays/x.bias"]
    file.write_bytes(as_bytes(tensors, metadata))
    refused(file, message)


def test_tensors_that_were_added(file: Path) -> None:
    tensors, metadata = read(file)
    file.write_bytes(as_bytes(tensors | {"more": np.zeros(1)}, metadata))
    refused(file, r"the tensors \['more'\] are not in its structure")


def test_truncated_files(file: Path) -> None:
    data = file.read_bytes()
    for length in {*range(0, len(data), 23), *range(60), *range(len(data) - 60, len(data))}:
        file.write_bytes(data[:length])
        refused(file, "it is not a whole safetensors file")
    file.write_bytes(data + b"\0")
    refused(file, "it is not a whole safetensors file")


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits(seed: int, file: Path) -> None:
    net, data, rng = network(), file.read_bytes(), np.random.default_rng(seed)
    for place in rng.integers(0, 8 * len(data), 500):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << (place % 8)
        file.write_bytes(changed)
        try:
            twin = Network.load(file)
        except StoreError:
            continue
        assert state(net) == state(twin)


def nodes(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a structure: what holds it, and where."""
    for place in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, place
        yield from nodes(node[place])


@pytest.mark.parametrize("junk", [None, True, -1, 3, 1.5, "x", [], [1], {}, {"tuple": 1}, {"function": []}, "gone"])
def test_structures_made_by_hand(junk: object, file: Path) -> None:
    data = file.read_bytes()
    count = sum(1 for _ in nodes(json.loads(read(file)[1]["structure"])))
    refusals = 0
    for number in np.random.default_rng(0).permutation(count)[:150]:
        file.write_bytes(data)

        def change(document: dict[str, Any], _: object, number: int = number) -> None:
            holder, place = list(nodes(document))[number]
            if junk == "gone":
                del holder[place]
            else:
                holder[place] = junk

        forged(file, change)
        try:
            Network.load(file)
        except StoreError:
            refusals += 1
    assert refusals > 75


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d, _: d["vertices"].append(d["vertices"][0]),
            r"not that of version 1 \(GraphError: .*'in' stands twice",
        ),
        (lambda d, _: d["vertices"][1].update(inputs=[["out", 0]]), "form a cycle"),
        (lambda d, _: d["vertices"][1].update(inputs=[["nobody", 0]]), "'nobody', which is not in the graph"),
        (lambda d, _: d["vertices"][1].update(inputs=[["in", 1]]), "its layers do not fit together"),
        (lambda d, _: d.update(outputs=[["out", 1]]), "there is no Port"),
        (lambda d, _: d["arrays"].pop("x.weight"), "KeyError: 'x.weight'"),
        (lambda d, _: d.update(dtype="<i8"), "none of floating numbers"),
        (lambda d, _: d["rng"]["state"]["dict"][0].__setitem__(1, "seed"), "random numbers of 'seed' are not known"),
        (lambda d, _: d["vertices"][1]["parameters"].update(weight="x.bias"), "its layers do not fit together"),
    ],
    ids=["twice", "cycle", "nobody", "second output", "no output", "no array", "type", "generator", "wrong array"],
)
def test_parts_that_do_not_fit(change: Any, message: str, file: Path) -> None:
    forged(file, change)
    refused(file, message)


# -- all or nothing ----------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize(
    "where", ["os.fsync", "pathlib.Path.replace", "shutil.copymode", "solver_nas.nn.store.as_bytes"]
)
def test_a_failure_leaves_the_old_file(
    where: str, error: BaseException, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    before, net = file.read_bytes(), network()
    delta_nout(net["x"], -1)
    with monkeypatch.context() as patch:
        patch.setattr(where, fail)
        with pytest.raises(type(error)):
            net.save(file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]
    net.save(file)
    assert state(net) == state(Network.load(file))


def test_a_disk_that_fills_up(file: Path) -> None:
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    before, net = file.read_bytes(), network()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            net.save(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


# Python itself closes a file whose `with` was interrupted on its first or last step, and complains.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_anywhere(file: Path) -> None:
    """Ctrl-C in any line of the writing leaves the old file or the whole new one, and nothing beside it."""
    net, before = network(), file.read_bytes()
    files = sys.modules["solver_nas.files"]
    line_count = 0

    def trace_until(stop: int) -> Callable[..., Any]:
        def trace(frame: Any, event: str, _: object) -> Any:
            nonlocal line_count
            if frame.f_code is not files.replace_file.__code__:
                return None
            if event == "line":
                line_count += 1
                if line_count == stop:
                    raise KeyboardInterrupt
            return trace

        return trace

    previous = sys.gettrace()
    for stop in range(1, 50):
        line_count = 0
        file.write_bytes(before)
        sys.settrace(trace_until(stop))
        try:
            net.save(file)
        except KeyboardInterrupt:
            continue
        else:
            break
        finally:
            sys.settrace(previous)
            assert list(file.parent.iterdir()) == [file]
            assert state(net) == state(Network.load(file))
    else:
        pytest.fail("it never ended")
    assert stop > 8


def test_two_at_the_same_time(tmp_path: Path) -> None:
    nets = [network() for _ in range(4)]
    for place, net in enumerate(nets):
        net.arrays["x.bias"] = np.full(6, float(place))
    threads = [threading.Thread(target=net.save, args=(tmp_path / "net",)) for net in nets for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    assert Network.load(tmp_path / "net")["x"].op.bias[0] in range(4)

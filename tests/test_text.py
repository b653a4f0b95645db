"""Text data: reading, the vocabulary, streams for truncated BPTT."""

import json
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirnn.data import TextStream, Vocabulary, read_text, stdlib_text


def test_the_default_text_is_the_standard_library_and_the_same_every_time():
    text = read_text(max_chars=50_000)
    assert len(text) == 50_000
    assert text == stdlib_text(50_000)
    first = Path(sysconfig.get_path("stdlib")) / "__future__.py"
    assert text.startswith(first.read_text()[:200])
    assert text.isascii()


def test_a_larger_cap_only_adds_at_the_end():
    assert stdlib_text(30_000) == stdlib_text(60_000)[:30_000]


def test_any_utf8_file_is_read(tmp_path):
    path = tmp_path / "gedicht.txt"
    path.write_bytes("\ufeffÜber allen\r\nGipfeln 🌲".encode())
    assert read_text(path) == "Über allen\nGipfeln 🌲"
    assert read_text(str(path), max_chars=4) == "Über"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the text is empty"),
        (b"aaaa", "the text is 'a' repeated; there is nothing to predict"),
        (b"caf\xe9 au lait", "must be UTF-8 text.*0xe9.*iconv"),
        (b"\x00\xff\xfe\x00", "must be UTF-8 text"),
    ],
)
def test_a_text_that_cannot_be_learnt_from_is_refused_with_its_path(tmp_path, content, words):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad\.txt: {words}"):
        read_text(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt: there is no such file"):
        read_text(tmp_path / "nowhere.txt")
    with pytest.raises(ValueError, match="must be a file"):
        read_text(tmp_path)


def test_a_cap_below_one_is_refused():
    with pytest.raises(ValueError, match="max_chars must be at least 1 or None, got 0"):
        read_text(max_chars=0)


@given(st.text(min_size=2).filter(lambda text: len(set(text)) > 1))
def test_decode_undoes_encode(text):
    vocabulary = Vocabulary.of(text)
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int64
    assert vocabulary.decode(ids) == text
    assert sorted(set(ids.tolist())) == list(range(len(vocabulary)))


def test_ids_follow_the_order_of_the_characters():
    vocabulary = Vocabulary.of("banana")
    assert vocabulary.characters == "abn"
    assert vocabulary.encode("nab").tolist() == [2, 0, 1]
    assert vocabulary.encode("").shape == (0,)


def test_an_unknown_character_is_named_with_its_place():
    with pytest.raises(ValueError, match=r"'x' at 2 is not among the 3 characters"):
        Vocabulary.of("abc").encode("abxc")


def test_an_id_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match=r"ids must be in \[0, 3\), got -1 to 2"):
        Vocabulary.of("abc").decode([2, -1])


def test_unsorted_characters_are_refused():
    with pytest.raises(ValueError, match="sorted"):
        Vocabulary("ba")


@given(
    batch_size=st.integers(1, 5), steps=st.integers(1, 12), chunks=st.integers(1, 4), data=st.data()
)
def test_rows_of_the_batch_read_the_text_on_and_targets_are_one_ahead(
    batch_size, steps, chunks, data
):
    piece = chunks * steps + data.draw(st.integers(0, steps - 1), "left out at the pieces' ends")
    ids = np.arange(batch_size * piece + 1 + data.draw(st.integers(0, batch_size - 1)))
    stream = TextStream(ids, batch_size, steps)
    pairs = list(stream)
    assert len(pairs) == len(stream) == chunks
    x = np.concatenate([x for x, _ in pairs])
    for b in range(batch_size):
        np.testing.assert_array_equal(x[:, b], np.arange(len(x)) + b * piece)
    for x, y in pairs:
        assert x.shape == y.shape == (steps, batch_size)
        np.testing.assert_array_equal(y, x + 1)


def test_a_text_too_short_for_one_chunk_says_how_long_it_must_be():
    TextStream(np.arange(16), 3, 5)
    with pytest.raises(ValueError, match="need at least 16 characters, got 15"):
        TextStream(np.arange(15), 3, 5)


def test_a_stream_that_was_broken_off_goes_on_in_another_process():
    whole = [x for x, _ in TextStream(np.arange(100), 3, 5)]
    first = TextStream(np.arange(100), 3, 5)
    chunks = iter(first)
    next(chunks), next(chunks)
    state = json.loads(json.dumps(first.state_dict()))
    second = TextStream(np.arange(100), 3, 5)
    second.load_state_dict(state)
    rest = [x for x, _ in second]
    assert len(rest) == len(whole) - 2
    np.testing.assert_array_equal(rest, whole[2:])


def test_the_next_iteration_is_the_next_epoch():
    stream = TextStream(np.arange(31), 1, 10)
    first, second = list(stream), list(stream)
    np.testing.assert_array_equal(first, second)
    assert (stream.position, stream.epoch) == (0, 2)


def test_a_place_saved_after_the_last_chunk_leads_to_the_next_epoch():
    stream = TextStream(np.arange(31), 1, 10)
    for _ in stream:
        state = stream.state_dict()
    resumed = TextStream(np.arange(31), 1, 10)
    resumed.load_state_dict(state)
    assert list(resumed) == []
    assert resumed.epoch == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 9}, "steps was 9 and is 10"),
        ({"chunks": 7}, "chunks was 7 and is 3"),
        ({"position": 9}, r"position must be in \[0, 3\]"),
        ({"more": 1}, "must have the keys"),
    ],
)
def test_a_place_that_does_not_fit_is_refused_and_changes_nothing(change, words):
    stream = TextStream(np.arange(31), 1, 10)
    with pytest.raises(ValueError, match=words):
        stream.load_state_dict({**stream.state_dict(), "position": 2, **change})
    assert stream.position == 0


def test_ids_of_a_wrong_kind_are_refused():
    with pytest.raises(ValueError, match="ids must be a row of integers"):
        TextStream(np.zeros((3, 4), int), 1, 1)
    with pytest.raises(ValueError, match="batch_size and steps must be at least 1"):
        TextStream(np.arange(9), 0, 1)

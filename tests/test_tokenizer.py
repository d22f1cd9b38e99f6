"""The tokenizer: nothing is lost, and every piece can be shown."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers

from model.tokenizer import BOS, EOS, PATH, VOCAB_SIZE, TextError, Tokenizer, segment

TOKENIZER = Tokenizer.load()
TALK = "明天我们一起去吃炸酱面吧?"


def shown(text: str) -> list[str]:
    return [piece.text for piece in TOKENIZER.pieces(TOKENIZER.encode(text))[1:]]


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_survives(text):
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    assert ids[0] == TOKENIZER.bos_id and not {TOKENIZER.bos_id, TOKENIZER.eos_id} & set(ids[1:])
    pieces = TOKENIZER.pieces(ids)
    assert len(pieces) == len(ids)
    assert all(piece.text and ("\ufffd" not in piece.text or "\ufffd" in text) for piece in pieces)
    if not any(piece.is_partial for piece in pieces):
        assert "".join(piece.text for piece in pieces[1:]) == text


def test_size_and_specials():
    assert TOKENIZER.vocab_size == VOCAB_SIZE == 4096
    assert (TOKENIZER.bos_id, TOKENIZER.eos_id) == (0, 1)
    assert PATH.stat().st_size < 300_000


def test_the_talks_sentence_is_cut_into_words():
    assert shown(TALK) == ["明天", "我们", "一起", "去", "吃", "炸酱面", "吧", "?"]
    assert shown(TALK.replace("?", "？"))[-1] == "？"


def test_digits_are_single():
    assert shown("邮政编码是230012") == ["邮政编码", "是", *"230012"]
    assert shown("12 + 30") == ["1", "2", " ", "+", " ", "3", "0"]


def test_bytes_of_one_character_are_labelled():
    pieces = TOKENIZER.pieces(TOKENIZER.encode("😀"))[1:]
    assert all(piece.is_partial for piece in pieces)
    assert pieces[0].text.startswith("😀 1") and pieces[-1].text.endswith("4/4")


def test_bytes_of_no_character_are_shown_in_hex():
    first = TOKENIZER.encode("😀")[1]
    [piece] = TOKENIZER.pieces([first])
    assert piece.is_partial and piece.text.startswith("F0")
    between = TOKENIZER.pieces([first, TOKENIZER.eos_id, *TOKENIZER.encode("😀")[2:]])
    assert between[0].text.startswith("F0") and between[1].is_special


def test_special_tokens_in_a_persons_text_are_text():
    text = f"a{BOS}b{EOS}"
    ids = TOKENIZER.encode(text)
    assert ids.count(0) == 1 and 1 not in ids
    assert TOKENIZER.decode(ids) == text


def test_half_a_surrogate_pair_is_refused_with_its_place():
    with pytest.raises(TextError, match="position 3 .*U\\+D83D"):
        TOKENIZER.encode("ab\ud83d")


def test_transformers_reads_the_same_file():
    from transformers import PreTrainedTokenizerFast

    other = PreTrainedTokenizerFast(tokenizer_file=str(PATH), bos_token=BOS, eos_token=EOS)
    for text in (TALK, "Shall we go and eat noodles tomorrow?"):
        assert other(text)["input_ids"] == TOKENIZER.encode(text)


def test_segments_take_the_longest_word():
    own, dictionary = {"炸酱面", "火锅店"}, {"明天", "我们", "炸酱", "去火"}
    assert list(segment("明天我们去吃炸酱面", own, dictionary)) == ["明天", "我们", "去", "吃", "炸酱面"]
    assert list(segment("去火锅店去火", own, dictionary)) == ["去", "火锅店", "去火"]


def test_another_tokenizer_file_that_is_not_byte_level(tmp_path):
    vocab = {"[UNK]": 0, "hello": 1, "world": 2}
    inner = Inner(models.WordLevel(vocab, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.save(str(tmp_path / "tokenizer.json"))
    other = Tokenizer.load(tmp_path)
    ids = other.encode("hello world")
    assert [piece.text for piece in other.pieces(ids)] == ["hello", "world"]
    assert other.decode(ids) == "hello world" and other.bos_id is None and other.vocab_size == 3


def test_a_byte_fallback_tokenizer(tmp_path):
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁hi": 3} | {f"<0x{byte:02X}>": 4 + byte for byte in range(256)}
    inner = Inner(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    inner.save(str(tmp_path / "tokenizer.json"))
    other = Tokenizer.load(tmp_path / "tokenizer.json")
    ids = other.encode("炸")
    assert len(ids) == 3 and all(piece.is_partial for piece in other.pieces(ids))
    assert (other.bos_id, other.eos_id) == (1, 2) and other.decode(ids) == "炸"


def test_the_file_says_how_to_begin():
    post = json.loads(PATH.read_text("utf-8"))["post_processor"]
    assert post["single"][0]["SpecialToken"]["id"] == BOS

"""The corpus: right answers, nothing held out that is also trained on, every subject in both languages."""

import re
from itertools import islice

import pytest

from model.corpus import (
    EXAMPLES,
    FAMILIES,
    SUBJECTS,
    heldout,
    is_heldout,
    mixture,
    own_documents,
    real_documents,
)
from model.corpus.hospital import BUILDINGS, STREETS, postal_code
from model.corpus.numbers import chinese_number, english_number
from model.corpus.real import ASSETS, LEXICOGRAPHER_FILES, SOURCES

OWN = list(own_documents(20_000, seed=1))


def test_every_subject_speaks_both_languages():
    seen = {(doc.subject, doc.language) for doc in OWN}
    assert seen == {(subject, language) for subject in SUBJECTS for language in ("zh", "en")}
    assert 14 <= len(SUBJECTS) <= 18


def test_languages_have_equal_shares():
    chinese = sum(doc.language == "zh" for doc in OWN) / len(OWN)
    assert 0.45 < chinese < 0.55


def test_no_document_is_empty_or_shows_a_slot():
    for doc in [*OWN, *real_documents("heldout"), *real_documents("train")]:
        assert doc.text.strip() == doc.text != ""
        if doc.source == "own":
            assert not re.search(r"[\[\]{}|]|  |。。|，，|，。", doc.text), doc.text


def test_same_seed_same_texts():
    assert list(own_documents(50, seed=7)) == list(own_documents(50, seed=7))
    assert list(own_documents(50, seed=7)) != list(own_documents(50, seed=8))
    assert list(islice(mixture(3), 200)) == list(islice(mixture(3), 200))
    assert heldout(3) == heldout(3)


def test_no_heldout_text_is_trained_on():
    trained = {doc.text for doc in OWN} | {doc.text for doc in real_documents("train")}
    trained |= {doc.text for doc in islice(mixture(5), 5_000)}
    tested = {doc.text for doc in heldout(20)} | {doc.text for doc in real_documents("heldout")}
    assert not trained & tested
    assert not any(map(is_heldout, trained)) and all(map(is_heldout, tested))


def test_heldout_covers_every_subject_and_source():
    found = {(doc.subject, doc.language) for doc in heldout(2) if doc.source == "own"}
    assert found == {(family.subject, family.language) for family in FAMILIES}
    assert {doc.source for doc in heldout(2)} == {"own", *SOURCES}


def test_mixture_keeps_the_share_of_our_own_texts():
    docs = list(islice(mixture(2, own_share=0.6), 20_000))
    own = sum(len(doc.text.encode()) / 3.7 for doc in docs if doc.source == "own")
    real = sum(len(doc.text.encode()) / 2.8 for doc in docs if doc.source != "own")
    assert own / (own + real) == pytest.approx(0.6, abs=0.03)
    assert all(doc.source == "own" for doc in islice(mixture(2, own_share=1.0), 100))


NUMBER = {word(n): n for word in (chinese_number, english_number) for n in range(100)} | {
    str(n): n for n in range(100)
}
_N = r"([0-9]+|[零一二三四五六七八九十]+|[a-z]+(?:-[a-z]+)?)"
_SUM = re.compile(rf"{_N} ?(加|减|乘|plus|minus|times) ?{_N} ?(?:等于|is) ?{_N}")
_WORK = {
    "加": int.__add__,
    "plus": int.__add__,
    "减": int.__sub__,
    "minus": int.__sub__,
    "乘": int.__mul__,
    "times": int.__mul__,
}


def test_sums_are_right():
    checked = 0
    for doc in OWN:
        if doc.subject == "sums":
            for a, sign, b, answer in _SUM.findall(doc.text):
                if {a, b, answer} <= NUMBER.keys():
                    assert _WORK[sign](NUMBER[a], NUMBER[b]) == NUMBER[answer], doc.text
                    checked += 1
    assert checked > 2_000


@pytest.mark.parametrize(
    "n,english,chinese",
    [
        (7, "seven", "七"),
        (10, "ten", "十"),
        (18, "eighteen", "十八"),
        (20, "twenty", "二十"),
        (81, "eighty-one", "八十一"),
        (0, "zero", "零"),
    ],
)
def test_numbers_in_words(n, english, chinese):
    assert (english_number(n), chinese_number(n)) == (english, chinese)


def test_one_building_has_one_postal_code():
    codes = {postal_code(street[2], building[0]) for street in STREETS for building in BUILDINGS}
    assert len(codes) == len(STREETS) * len(BUILDINGS) == 60
    assert all(re.fullmatch(r"\d{6}", code) for code in codes)


def test_postal_codes_in_texts_are_those_of_the_building():
    district = {street[0]: street[2] for street in STREETS} | {street[1]: street[2] for street in STREETS}
    checked = 0
    for doc in OWN:
        if doc.subject == "postal":
            street = next(street for street in district if street in doc.text)
            codes = set(re.findall(r"\d{6}", doc.text))
            number = re.search(r"(?<!\d)(\d{1,2})(?=号| [A-Z])", doc.text)
            assert codes == {postal_code(district[street], number.group(1))}, doc.text
            checked += 1
    assert checked > 500


def test_tomorrow_follows_today():
    days = [f"星期{day}" for day in "一二三四五六天"]
    texts = [
        doc.text for doc in OWN if doc.subject == "calendar" and re.search("今天是星期.，明天是", doc.text)
    ]
    assert texts
    for text in texts:
        today, tomorrow = re.search("今天是(星期.)，明天是(星期.)", text).groups()
        assert days[(days.index(today) + 1) % 7] == tomorrow


def test_what_is_said_of_the_hospital_is_true():
    for doc in OWN:
        if doc.subject == "token hospital":
            for pattern in (r"第(\d+)层是第(\d+)个科室", r"[Ff]loor (\d+) is department (\d+)"):
                for floor, department in re.findall(pattern, doc.text):
                    assert int(floor) - 3 == int(department) and 4 <= int(floor) <= 61


def test_examples_begin_texts_of_our_own():
    assert EXAMPLES["zh"][0] == "明天我们一起去吃炸酱面吧?"
    many = [doc.text for doc in own_documents(60_000, seed=11)]
    for language in ("zh", "en"):
        assert len(EXAMPLES[language]) == 6
        for example in EXAMPLES[language]:
            assert any(text.startswith(example) for text in many), example


def test_licences_name_every_source_and_count():
    readme = (ASSETS / "README.md").read_text("utf-8")
    for source in SOURCES:
        count = sum(1 for split in ("train", "heldout") for _ in real_documents(split, [source]))
        assert re.search(rf"`{source}\.jsonl\.xz` \| {count:,} \|", readme), (source, count)
    assert sum(file.stat().st_size for file in ASSETS.iterdir()) < 4_000_000


def test_wordnet_subjects_are_the_lexicographers():
    subjects = {doc.subject for doc in real_documents("train", ["wordnet"])}
    assert subjects <= set(LEXICOGRAPHER_FILES) and len(subjects) == 45 == len(LEXICOGRAPHER_FILES)

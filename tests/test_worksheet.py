"""The worksheet: what is printed can be worked out by hand from what is printed, and it is a page that needs nothing."""

from __future__ import annotations

import math
import re
import unicodedata
from decimal import ROUND_HALF_UP, Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest
import screens
from screens import LANGUAGES

import model
from pages.kit import ask, building, exercises, paper, service, sheet, state, worksheet
from pages.kit.sheet import Exercise, Paper

LONG = "面" * model.MAX_TOKENS
HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(2)> & \"q\" 'a' {token} {0} %s",
    "**bold** `code` $x^2$ [a](http://example.org) ![x](http://example.org/x.png) </p></section></html>",
    "a\x00b\x07\x1b[31mc\u2028d", "שלום עולם \u202eevil\u2066x", "👩‍👩‍👧 🏥 e\u0301\u0301 \u200b",
]  # fmt: skip
# sentence, token (from the end, -1 the last), floor
VISITS = [
    (ask.EXAMPLES["en"][0], -2, 30), (ask.EXAMPLES["zh"][0], 3, 4), (ask.EXAMPLES["en"][3], 5, 61),
    (ask.EXAMPLES["zh"][3], 1, 17), ("The the the the.", -1, 9), ("12 + 30 = 42", 4, 45), ("面", 1, 33), ("面", 0, 12),
    (ask.EXAMPLES["en"][4], -1, 22), (LONG, 130, 50), (HOSTILE[0], 7, 28),
]  # fmt: skip


@pytest.fixture(scope="module")
def house(hospital_folder) -> service.Hospital:
    return service.Hospital(model.load(hospital_folder))


@pytest.fixture(scope="module")
def clinic(clinic_folder) -> service.Hospital:
    return service.Hospital(model.load(clinic_folder))


def visit(house, text: str, token: int, floor: int):
    c, tokens = house.config, len(house.trace(text).ids)
    floor = min(max(floor, c.first_k_dense_replace + 1), c.num_hidden_layers)
    return screens.visit(house, "guide", text, token % tokens, floor)


def number(text: str) -> Decimal:
    """A printed number, as a reader takes it."""
    return Decimal(text.replace("−", "-").replace(",", ""))


def half_up(value: Decimal | float, digits: int) -> Decimal:
    value = value if isinstance(value, Decimal) else Decimal(repr(value))
    return value.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP) + 0


def same(printed: list[str], worked_out: list[Decimal]) -> bool:
    return [number(one) for one in printed] == worked_out


def powers(values: list[Decimal]) -> list[Decimal]:
    return [half_up(math.exp(one), 3) for one in values]


def percents(values: list[Decimal]) -> list[Decimal]:
    return [half_up(100 * one / sum(values), 0) for one in values]


# -- by hand -----------------------------------------------------------------------------------------------------------
# What a careful student would do, from `given` alone, written without looking at how the sheet does it.


def count(given, found):
    departments = given["floors"] - given["desk"]
    both = given["called"] + given["nurses"]
    assert found == {"departments": departments, "both": both, "all": departments * both}


def rooms_map(given, found):
    lit = {chr(ord("A") + room // given["size"]) for room in given["called"]}
    assert found["dark"] == [chr(ord("A") + g) for g in range(given["corridors"]) if chr(ord("A") + g) not in lit]


def corridors(given, found):
    scores = [number(one) for one in given["scores"]]
    order = sorted(range(len(scores)), key=lambda g: -scores[g])  # stable: of equals the earlier letter
    assert found["open"] == [chr(ord("A") + g) for g in sorted(order[: given["kept"]])]
    assert number(found["gap"]) == scores[order[given["kept"] - 1]] - scores[order[given["kept"]]] >= 0


def shared(given, found):
    assert found["both"] == sorted(set(given["mine"]) & set(given["theirs"]))
    if "chance" in found:
        assert number(found["chance"]) == half_up(Decimal(given["called"] ** 2) / given["all"], 2)


def woken(given, found):
    touched = given["all"] - given["dark"]
    assert number(found["touched"]) == touched
    assert found["least"] == given["interns"] <= touched <= found["most"] <= given["all"]
    apart = given["tokens"] * given["interns"]
    assert found["most"] == (apart if given["tokens"] * given["called"] <= given["rooms"] else given["all"])
    assert number(found["share"]) == half_up(Decimal(100 * touched) / given["all"], 1)
    if "chance" in found:
        missed = (1 - given["called"] / given["rooms"]) ** given["tokens"]
        assert number(found["chance"]) == half_up(100 * (1 - missed), 1)


def reading(given, found):
    shares = [number(one) for one in given["shares"]]
    single = shares[:-1] if given["rest"] else shares
    assert sum(shares) == 100 and found["best"] and number(found["others"]) == 100 - max(single)
    assert single.count(max(single)) == 1 or len(single) == 1 or max(single) < 1


def cache(given, found):
    full = given["heads"] * (given["keys"] + given["values"])
    code = given["latent"] + given["rope"]
    each = given["floors"] * code
    everyone, v3 = each * given["tokens"], Decimal(61 * (512 + 64) * 131_072 * 2) / 10**9
    worked_out = {"full": full, "code": code, "ratio": str(half_up(Decimal(full) / code, 1)), "each": each,
                  "everyone": everyone, "bytes": everyone * 4, "giga": str(half_up(v3, 1))}  # fmt: skip
    assert len(found) >= 3 and found.items() <= worked_out.items()


def order(given, found):
    shares = [number(one) for one in given["shares"]]
    ranked = sorted(range(len(shares)), key=lambda i: -shares[i])  # stable: of equals the upper one
    assert [found["places"][i] for i in ranked] == list(range(1, len(shares) + 1))
    assert number(found["three"]) == sum(shares[i] for i in ranked[:3])
    assert number(found["times"]) == half_up(max(shares), 0)
    assert found["first"] == given["names"][ranked[0]]


def floors(given, found):
    same_as_top = [word == given["words"][-1] for word in given["words"]]
    assert (len(set(found["same"])) == 1) == all(same_as_top)
    steady = next(i for i in range(len(same_as_top)) if all(same_as_top[i:]))
    assert found["steady"] == given["floors"][steady]


def sigmoid(given, found):
    scores = [half_up(1 / (1 + math.exp(-number(one))), 3) for one in given["logits"]]
    assert same(found["scores"], scores) and number(found["total"]) == sum(scores)


def choose(given, found):
    rooms = {room: (number(score), number(board)) for room, (score, board) in given["rooms"].items()}
    both = {room: score + board for room, (score, board) in rooms.items()}
    assert same(found["both"], list(both.values()))
    groups: dict[int, list[Decimal]] = {}
    for room, value in both.items():
        groups.setdefault(room // given["size"], []).append(value)
    sums = {g: sum(sorted(values, reverse=True)[:2]) for g, values in groups.items()}
    assert same(found["sums"], list(sums.values()))
    open_ = sorted(sums, key=lambda g: -sums[g])[: given["kept"]]
    assert found["open"] == [chr(ord("A") + g) for g in sorted(open_)]
    behind = [room for room in both if room // given["size"] in open_]
    assert found["called"] == sorted(behind, key=lambda room: -both[room])[: given["k"]]
    assert len(found["called"]) == given["k"] < len(behind), "there is something to choose"


def weigh(given, found):
    scores, scale = [number(one) for one in given["scores"]], number(given["scale"])
    weights = [half_up(scale * one / sum(scores), 2) for one in scores]
    assert number(found["total"]) == sum(scores) and same(found["weights"], weights)
    assert number(found["sum"]) == sum(weights) and all(scores)


def mistake(given, found):
    scores, boards = ([number(one) for one in given[what]] for what in ("scores", "boards"))
    scale, both = number(given["scale"]), [a + b for a, b in zip(scores, boards, strict=True)]
    assert same([found["right"], found["wrong"]], [sum(scores), sum(both)])
    assert same(found["good"], [half_up(scale * one / sum(scores), 2) for one in scores])
    assert same(found["bad"], [half_up(scale * one / sum(both), 2) for one in both])


def mix(given, found):
    values = [number(one) for one in given["values"]]
    assert number(found["total"]) == sum(values)
    assert len(found["against"]) == sum(one * sum(values) < 0 for one in values)


def softmax(given, found):
    totals = [number(a) + number(b) for a, b in zip(given["content"], given["position"], strict=True)]
    less = [one - max(totals) for one in totals]
    assert same(found["totals"], totals) and same(found["less"], less) and same(found["powers"], powers(less))
    assert number(found["sum"]) == sum(powers(less)) and same(found["shares"], percents(powers(less)))


def temper(given, found):
    scores = [number(one) for one in given["scores"]]
    less = [one - max(scores) for one in scores]
    assert same(found["powers"], powers(less)) and same(found["cold"], percents(powers(less)))
    warm = powers([one / 2 for one in less])
    assert same(found["powers_2"], warm) and same(found["warm"], percents(warm))
    if "kept" not in found:
        return
    reached, kept = Decimal(0), 0
    for share in percents(warm):
        if reached >= given["top_p"]:
            break
        reached, kept = reached + share, kept + 1
    assert (kept, reached) == (found["kept"], number(found["mass"]))


def loss(given, found):
    nats = [half_up(-math.log(number(one) / 100), 2) for one in given["shares"]]
    mean = half_up(sum(nats) / len(nats), 2)
    assert same(found["nats"], nats) and number(found["mean"]) == mean
    assert number(found["perplexity"]) == half_up(math.exp(mean), 1)


def shapes(given, found):
    sizes = given["letters"]
    worked_out = [
        math.prod(eval(part, {"__builtins__": {}}, dict(sizes)) for part in shape.strip("()").split(","))
        for shape in given["shapes"]
    ]
    assert same(found["numbers"], [Decimal(one) for one in worked_out])


def weights(given, found):
    expert = 3 * given["hidden"] * given["width"]
    assert (found["expert"], found["all"]) == (expert, given["floors"] * given["rooms"] * expert)
    assert found["awake"] == given["floors"] * given["called"] * expert
    assert number(found["share"]) == half_up(Decimal(100 * given["active"]) / given["main"], 1)


def absorb(given, found):
    assert found["closed"] == 2 * given["latent"] + given["rope"]
    assert found["opened"] == given["keys"] + given["rope"] + given["values"]
    assert (found["v3_closed"], found["v3_opened"]) == (1088, 320)


def match(given, found):
    letters = [one[0] for one in found["pairs"]]
    numbers = sorted(int(one[1:]) for one in found["pairs"])
    assert letters == [chr(ord("A") + i) for i in range(len(letters))]
    assert numbers == list(range(1, len(letters) + 1)) and len(set(given["right"])) == len(given["right"])


BY_HAND = {
    "count": count, "map": rooms_map, "corridors": corridors, "shared": shared, "woken": woken, "reading": reading,
    "cache": cache, "order": order, "floors": floors, "sigmoid": sigmoid, "choose": choose, "weigh": weigh,
    "mistake": mistake, "mix": mix, "softmax": softmax, "temper": temper, "loss": loss, "shapes": shapes,
    "weights": weights, "absorb": absorb, "match": match,
}  # fmt: skip


def read(markup: str) -> str:
    """What a reader sees."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", markup))


def printed(value: object) -> list[str]:
    """The printed digits among what was given or found."""
    if isinstance(value, dict):
        return [one for part in value.values() for one in printed(part)]
    if isinstance(value, list | tuple):
        return [one for part in value for one in printed(part)]
    return [value] if isinstance(value, str) and re.fullmatch(r"−?[\d,]+(\.\d+)?", value) else []


def check(made: list[Exercise]) -> None:
    for one in made:
        BY_HAND[one.key](one.given, one.found)
        tasks, answers = read(one.tasks), read(one.answers)
        assert [digits for digits in printed(one.given) if digits not in tasks] == [], one.key
        assert [digits for digits in printed(one.found) if digits not in answers] == [], one.key


@pytest.mark.parametrize("depth", state.DEPTHS)
@pytest.mark.parametrize("text,token,floor", VISITS, ids=lambda one: str(one)[:12])
def test_the_printed_digits_give_the_printed_answers(house, depth, text, token, floor):
    made = exercises.made(Paper(visit(house, text, token, floor), "en", depth))
    assert 8 <= len(made) <= 12
    check(made)


def test_many_tokens_and_floors_of_one_sentence(house):
    """One sentence, every patient on another floor."""
    text = ask.EXAMPLES["zh"][0]
    for token in range(len(house.trace(text).ids)):
        for depth in state.DEPTHS:
            check(exercises.made(Paper(visit(house, text, token, 4 + token * 5), "zh", depth)))


@pytest.mark.parametrize("depth", state.DEPTHS)
@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_hospital_of_another_shape(clinic, lang, depth):
    for text, token in ((ask.EXAMPLES[lang][1], -1), ("面", 1), (LONG, 200)):
        made = exercises.made(Paper(visit(clinic, text, token, 3), lang, depth))
        assert 8 <= len(made) <= 12
        check(made)


def test_every_exercise_is_checked():
    keys = {name for sheet in exercises.SHEETS.values() for name in (make.__name__ for make in sheet)}
    assert {"map" if name == "rooms_map" else name for name in keys} == set(BY_HAND)


def test_what_the_rounded_digits_choose_is_what_the_hospital_chose(house):
    """Rounding is refined until it changes neither the open corridors nor, among those listed, who is called."""
    seen = visit(house, ask.EXAMPLES["en"][0], -2, 30)
    p = Paper(seen, "en", "maths")
    one = exercises.choose(p)
    real = [building.letter(g) for g in sorted(seen.trace.kept_groups[p.at].tolist())]
    assert one.found["open"] == real == exercises.corridors(p).found["open"]
    listed, called = set(one.given["rooms"]), set(seen.trace.chosen[p.at].tolist())
    assert called & listed <= set(one.found["called"])


def test_answers_that_look_alike_are_told_apart(house):
    """The first Chinese sentence ends in ? on some floors and in \uff1f on others: on paper they look the same."""
    one = exercises.floors(Paper(visit(house, ask.EXAMPLES["zh"][0], -2, 32), "zh", "story"))
    told = set(one.given["words"])
    assert len({word[0] for word in told} & {"?", "\uff1f"}) == 2
    assert len({unicodedata.normalize("NFKC", word) for word in told}) == len(told)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_what_the_lobby_asks_is_not_printed_with_the_tasks(house, lang):
    seen = visit(house, ask.EXAMPLES[lang][0], -2, 32)
    awake = f"{seen.trace.experts_touched:,}"
    for depth in state.DEPTHS:
        one = exercises.woken(Paper(seen, lang, depth))
        assert awake not in read(one.tasks) and awake in read(one.answers)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_numbers_of_a_record_are_counted_from_1(house, lang):
    """On the sheet as in every picture, so that one finds in the one what the other speaks of."""
    seen = visit(house, ask.EXAMPLES["en"][0], -2, 30)
    values = house.live.engine.opinions(seen.trace, seen.layer, seen.token).abs().sum(0).tolist()
    largest = 1 + values.index(max(values))
    about = {"en": f" number {largest} of", "zh": f"第 {largest} 个数"}[lang]
    assert about in read(exercises.mix(Paper(seen, lang, "maths")).tasks)
    for path in sorted(Path(exercises.__file__).with_name("figures").glob("*.py")):
        for axis in re.findall(r'plates\.axis\("dim".*', path.read_text("utf-8")):
            assert "offset=1" in axis, (path.name, axis)


@pytest.mark.parametrize("value,digits,expected", [
    (0.125, 2, "0.13"), (-0.125, 2, "-0.13"), (-0.001, 2, "0.00"), (2.5, 0, "3"), (0.005, 2, "0.01"),
])  # fmt: skip
def test_rounding_is_that_of_school(value, digits, expected):
    assert str(sheet.rounded(value, digits)) == expected


@pytest.mark.parametrize("parts", [[1.0], [0.5, 0.5], [1 / 3] * 3, [0.005] * 200, [0.999, 0.0005, 0.0005]])
@pytest.mark.parametrize("digits", [0, 1, 2])
def test_percent_make_a_hundred(parts, digits):
    made = sheet.hundred(parts, digits)
    assert sum(made) == 100 and all(abs(one - Decimal(100 * part)) <= Decimal(1).scaleb(-digits) for one, part in zip(made, parts, strict=True))


def test_of_equals_the_earlier_letter_and_the_smaller_number_win():
    half, none = Decimal("0.50"), Decimal("0.00")
    found = exercises.by_rule(dict.fromkeys(range(8), (half, none)), 2, 2, 3)
    assert found.open == [0, 1] and found.called == [0, 1, 2]


# -- the page ----------------------------------------------------------------------------------------------------------

MAY = {
    "html", "head", "meta", "title", "style", "body", "main", "aside", "section", "h1", "h2", "p", "div", "span", "i", "u",
    "b", "bdi", "code", "ul", "ol", "li", "small", "table", "thead", "tbody", "tr", "th", "td", "svg", "rect", "text",
}  # fmt: skip
OPEN = {"meta"}
ATTRIBUTES = {
    "lang", "charset", "name", "content", "class", "data-exercise", "data-answer", "scope", "style", "type", "viewbox",
    "role", "aria-label", "x", "y", "width", "height",
}  # fmt: skip


class Reader(HTMLParser):
    """Tags, attributes and text of a page; what is opened must be closed, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in OPEN and tag != "rect":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text += data


@pytest.mark.parametrize("depth", state.DEPTHS)
@pytest.mark.parametrize("text", [*HOSTILE, LONG, "面"], ids=lambda text: ascii(text)[:16])
def test_whatever_was_typed_is_text(house, text, depth):
    seen = visit(house, text, -1, 20)
    for lang in LANGUAGES:
        page = worksheet.document(seen, lang, depth)
        found = Reader(page)
        assert set(found.tags) <= MAY and found.attributes <= ATTRIBUTES
        assert paper.clean(text)[:40].replace("\n", " ")[:20] in found.text.replace("\n", " ")
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069\u2028]", page)
        assert "{" not in found.text.replace(paper.clean(text), "") or "{" in text


def test_it_needs_nothing_from_anywhere(house):
    page = worksheet.document(visit(house, ask.EXAMPLES["en"][0], -2, 30), "en", "story")
    style = page[page.index("<style>") : page.index("</style>")]
    assert not re.search(r"https?:|//|src=|href=|url\(|@import|<script|<link", page.replace("<!doctype html>", ""))
    assert "@page" in style and "break-before: page" in style
    assert len(page.encode()) < 200_000


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_the_worksheet_tells_no_answer(house, lang, depth):
    """Its own file: no answers in it; a line for the name, left blank; the answers in the other file, in the same order."""
    seen = visit(house, ask.EXAMPLES[lang][0], -2, 30)
    tasks, answers, both = (worksheet.document(seen, lang, depth, part) for part in ("tasks", "answers", "both"))
    asked = re.findall(r"data-exercise='(\w+)'", tasks)
    assert "data-answer" not in tasks and "data-exercise" not in answers and 8 <= len(asked) <= 12
    assert re.findall(r"data-answer='(\w+)'", answers) == asked
    assert re.findall(r"data-(?:exercise|answer)='(\w+)'", both) == asked * 2 and both.index("class='answers'") > both.index(f"data-exercise='{asked[-1]}'")
    assert re.findall(r"<td class='blank'>([^<]+)", tasks) == [] and "class='lit'" not in tasks
    assert re.search(r"<div class='fields'><span>[^<]+<i></i></span>", tasks) and "class='fields'" not in answers
    for page in (tasks, answers, both):
        assert page.startswith("<!doctype html>") and f"<html lang='{'zh-CN' if lang == 'zh' else 'en'}'>" in page
    other = [one for one in LANGUAGES if one != lang][0]
    assert worksheet.document(seen, other, depth) != both


def test_the_same_visit_gives_the_same_sheet(house):
    seen = visit(house, ask.EXAMPLES["zh"][1], -1, 40)
    assert worksheet.document(seen, "zh", "story") == worksheet.document(seen, "zh", "story")

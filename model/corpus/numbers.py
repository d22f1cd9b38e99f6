"""Small sums and the calendar: every answer is worked out, none is typed."""

# ruff: noqa: E501  (a template is one line, however long)

from collections.abc import Callable

from .everyday import NAME_EN, NAME_ZH
from .templates import Family, Table, rows

_TENS_EN = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ONES_EN = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]


def english_number(n: int) -> str:
    """0 to 99 in words."""
    if n < 20:
        return _ONES_EN[n]
    return _TENS_EN[n // 10] + (f"-{_ONES_EN[n % 10]}" if n % 10 else "")


def chinese_number(n: int) -> str:
    """0 to 99 in words."""
    ten, one = divmod(n, 10)
    tens = "" if ten == 0 else "十" if ten == 1 else "零一二三四五六七八九"[ten] + "十"
    return tens + ("零一二三四五六七八九"[one] if one or not ten else "")


def _pairs(low: int, high: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(low, high + 1) for b in range(low, high + 1)]


def _table(
    pairs: list[tuple[int, int]], answer: Callable[[int, int], int], word: Callable[[int], str]
) -> Table:
    """Rows a / b / answer in digits, then in words; the last field is one more than the answer."""
    return Table([tuple(map(str, (a, b, answer(a, b)))) + tuple(map(word, (a, b, answer(a, b)))) for a, b in pairs],
                 flat=True)


def _plus(a: int, b: int) -> int:
    return a + b


def _times(a: int, b: int) -> int:
    return a * b


PLUS_ZH, PLUS_EN = (_table(_pairs(1, 9), _plus, word) for word in (chinese_number, english_number))
TIMES_ZH, TIMES_EN = (_table(_pairs(2, 9), _times, word) for word in (chinese_number, english_number))
# pairs of two different numbers: "3 plus 3 is 6, and 3 plus 3 is 6 too" says nothing
SWAP_ZH, SWAP_EN = (Table([r for r in t.rows if r[0] != r[1]], flat=True) for t in (PLUS_ZH, PLUS_EN))
SWAP_TIMES_ZH, SWAP_TIMES_EN = (Table([r for r in t.rows if r[0] != r[1]], flat=True) for t in (TIMES_ZH, TIMES_EN))

# thing / measure word
THING_ZH = rows("""
苹果/个
铅笔/支
糖/颗
书/本
鸡蛋/个
花/朵
""")
THING_EN = rows("apples\npencils\nsweets\nbooks\neggs\nflowers")
SUMS_ZH = Family("sums", "zh", """
    {s}加{s.1}等于{s.2}，{s.1}加{s}也等于{s.2}。{s.2}减{s.1}等于{s}，{s.2}减{s}等于{s.1}。[{name}都算对了。|老师说：“{name}真聪明。”]
    {name}有{p}{x.1}{x}，妈妈又给{name.1}{p.1}{x.1}{x}，{p}加{p.1}等于{p.2}，现在{name}有{p.2}{x.1}{x}。
    老师问：“{u.3}乘{u.4}等于多少？”{name}说：“{u.3}乘{u.4}等于{u.5}。”老师说：“[对|很好]，{u.4}乘{u.3}也等于{u.5}。”
    {u}乘{u.1}等于{u.2}，{u.1}乘{u}也等于{u.2}。[{name}会算，{name2}也会算。|{name}都算对了。]
    {p.3}加{p.4}等于几？{p.3}加{p.4}等于{p.5}。那么{p.5}减{p.4}呢？{p.5}减{p.4}等于{p.3}。
    一{x.1}{x}{t}块钱，{name}买了{t.1}{x.1}{x}，{t}乘{t.1}等于{t.2}，一共{t.2}块钱。
    """, p=PLUS_ZH, t=TIMES_ZH, s=SWAP_ZH, u=SWAP_TIMES_ZH, x=THING_ZH, name=NAME_ZH)
SUMS_EN = Family("sums", "en", """
    {s} plus {s.1} is {s.2}, and {s.1} plus {s} is {s.2} too. So {s.2} minus {s.1} is {s}, and {s.2} minus {s} is {s.1}. [{name} got it right.|"Very good, {name}," says the teacher.]
    {name} has {p} {x} and gets {p.1} more {x}. Now {p} plus {p.1} is {p.2}, so {name} has {p.2} {x}.
    The teacher asks, "What is {u.3} times {u.4}?" {name} says, "I think {u.3} times {u.4} is {u.5}." "[Right|Very good]," says the teacher, "and {u.4} times {u.3} is {u.5} too."
    {u} times {u.1} is {u.2}, and {u.1} times {u} is {u.2} too. [{name} knows it, and {name2} knows it too.|{name} got it right.]
    What is {p.3} plus {p.4}? It is {p.5}. And what is {p.5} minus {p.4}? It is {p.3}.
    {name} buys {t.1} {x} for {t} dollars each. {t.1} times {t} is {t.2}, so {name} pays {t.2} dollars.
    """, p=PLUS_EN, t=TIMES_EN, s=SWAP_EN, u=SWAP_TIMES_EN, x=THING_EN, name=NAME_EN)

_DAYS_ZH = [f"星期{day}" for day in "一二三四五六天"]
_DAYS_EN = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_MONTHS_EN = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
              "November", "December"]
_SEASONS_ZH = ["冬天", "春天", "夏天", "秋天"]
_SEASONS_EN = ["winter", "spring", "summer", "autumn"]


def _round(names: list[str]) -> Table:
    """Rows name / the next / the one before / the one after the next."""
    n = len(names)
    return Table([(names[i], names[(i + 1) % n], names[i - 1], names[(i + 2) % n]) for i in range(n)])


_MONTHS = list(range(1, 13))
MONTH_ZH = Table([(f"{chinese_number(m)}月", f"{chinese_number(m % 12 + 1)}月", f"{chinese_number((m - 2) % 12 + 1)}月",
                   _SEASONS_ZH[m % 12 // 3]) for m in _MONTHS])
MONTH_EN = Table([(_MONTHS_EN[m - 1], _MONTHS_EN[m % 12], _MONTHS_EN[m - 2], _SEASONS_EN[m % 12 // 3])
                  for m in _MONTHS])
PLAN_ZH = rows("""
去公园/放风筝
去图书馆/看书
去医院/看牙
去动物园/看熊猫
去面馆/吃炸酱面
""")
PLAN_EN = rows("""
go to the park/fly a kite
go to the library/read a book
go to the hospital/see the dentist
go to the zoo/see the pandas
go to the noodle shop/eat noodles
""")
CALENDAR_ZH = Family("calendar", "zh", """
    今天是{day}，明天是{day.1}，后天是{day.3}。[{day.1}|{day.3}]{name}要{plan}{plan.1}，[{name2}也去|{name2}和{name.1}一起去]。
    昨天是{day.2}，今天是{day}，明天是{day.1}。{name}[今天|明天]要{plan}，{name.1}最喜欢{plan.1}。
    今天星期几？今天是{day}。那明天呢？明天是{day.1}，{name}和{name2}要{plan}{plan.1}。
    现在是{month}，是{month.3}，下个月是{month.1}，上个月是{month.2}。[{name}的生日在{month.1}。|{month.3}，{name}常常{plan}{plan.1}。]
    {name}的生日在{month}，{name2}的生日在{month.1}。{month}是{month.3}，{month}以后是{month.1}。
    """, day=_round(_DAYS_ZH), month=MONTH_ZH, name=NAME_ZH, plan=PLAN_ZH)
CALENDAR_EN = Family("calendar", "en", """
    Today is {day}, tomorrow is {day.1}, and the day after is {day.3}. On [{day.1}|{day.3}] {name} will {plan} and {plan.1}.
    Yesterday was {day.2}, today is {day}, and tomorrow is {day.1}. {name} and {name2} will {plan} and {plan.1} [tomorrow|today].
    What day is it today? It is {day}, so tomorrow is {day.1}. On {day.1} {name} will {plan} and {plan.1}.
    It is {month}, and next month is {month.1}. [{month} is in {month.3}, when {name} likes to {plan} and {plan.1}.|The birthday of {name} is in {month.1}.]
    {name} was born in {month}, and {name2} was born in {month.1}. {month} is in {month.3}, and after {month} comes {month.1}.
    """, day=_round(_DAYS_EN), month=MONTH_EN, name=NAME_EN, plan=PLAN_EN)

FAMILIES = [SUMS_ZH, SUMS_EN, CALENDAR_ZH, CALENDAR_EN]

"""Chinese names of people, dishes, places and things in our own texts: each is one word to the tokenizer."""

from . import everyday, hospital, world
from .templates import Table

# (table, fields that hold a name; the other fields are phrases)
_NAMES: list[tuple[Table, tuple[int, ...]]] = [
    (everyday.NAME_ZH, (0,)),
    (everyday.DISH_ZH, (0, 2, 3)),
    (everyday.CITY_ZH, (0,)),
    (everyday.KIN_ZH, (0, 1, 2)),
    (everyday.LESSON_ZH, (0, 2)),
    (everyday.PLACE_ZH, (0,)),
    (everyday.GOODS_ZH, (0,)),
    (hospital.ILLNESS_ZH, (1,)),
    (hospital.ADDRESS_ZH, (0, 2)),
    (world.ANIMAL_ZH, (0, 2)),
    (world.COLOUR_ZH, (0, 1, 2, 3)),
    (world.HERO_ZH, (0, 2)),
    (world.HELPER_ZH, (0,)),
]
_TERMS = (
    "词元 分诊台 实习生 挂号 挂号员 科室 病历 邮政编码 会诊 出院 护士 "
    "一起 雨伞 星期 等于 出发 算术题 一共 没关系"
)


def own_words() -> set[str]:
    """All these names."""
    return set(_TERMS.split()) | {
        row[field] for table, fields in _NAMES for row in table.rows for field in fields
    }

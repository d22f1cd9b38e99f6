"""Hospital talk: seeing a doctor, the registration window, postal codes, and how the hospital of tokens works.

What is said of the hospital of tokens is true of DeepSeek-V3: 61 layers of which 3 are dense ("floors", "triage desk"),
58 with experts ("departments"), in each 256 routed experts ("interns") of whom 8 are chosen from 4 of 8 groups
("corridors" of 32 rooms), one shared expert ("nurse") that sees every token, and a compressed key-value cache
("postal code").
"""

# ruff: noqa: E501  (a template is one line, however long)

from .everyday import KIN_EN, KIN_ZH, NAME_EN, NAME_ZH
from .templates import Family, rows, words

# complaint / department / what is done / what the doctor finds / advice / then
ILLNESS_ZH = rows("""
发烧/内科/量体温/感冒了/多喝水/好好睡觉
咳嗽/内科/听一听/感冒了/多喝热水/按时吃药
牙疼/牙科/看牙齿/有一颗坏牙/少吃糖/每天刷牙
肚子疼/内科/摸一摸肚子/吃坏了肚子/喝点粥/不吃冷的
腿疼/骨科/拍片子/腿摔伤了/多休息/不要跑步
眼睛疼/眼科/看眼睛/眼睛累了/少看手机/多看绿树
耳朵疼/耳科/看耳朵/耳朵发炎了/按时吃药/不要游泳
头疼/内科/量血压/睡得太少/早点睡/多休息
手疼/骨科/拍片子/手摔伤了/多休息/不要打球
嗓子疼/内科/看嗓子/感冒了/多喝热水/少说话
""")
ILLNESS_EN = rows("""
a fever/internal medicine/takes the temperature/a cold/drink more water/sleep well
a cough/internal medicine/listens to the chest/a cold/drink warm water/take the medicine
a toothache/the dentist/looks at the teeth/a bad tooth/eat less sugar/brush the teeth every day
a stomach ache/internal medicine/presses the stomach/an upset stomach/eat some porridge/eat nothing cold
a sore leg/the bone department/takes an X-ray/a hurt leg/rest at home/do not run for a week
sore eyes/the eye department/looks at the eyes/tired eyes/look less at the phone/look at green trees
an earache/the ear department/looks at the ear/a sore ear/take the medicine/do not swim for a week
a headache/internal medicine/takes the blood pressure/too little sleep/go to bed early/rest at home
a sore hand/the bone department/takes an X-ray/a hurt hand/rest at home/do not play ball for a week
a sore throat/internal medicine/looks at the throat/a cold/drink warm water/talk less
""")

CLINIC_ZH = Family("clinic", "zh", """
    医生，我{ill}[|了两天|了三天]。[别担心，我先{ill.2}。|别着急，先{ill.2}吧。]你{ill.3}，要{ill.4}，{ill.5}。[谢谢医生！|好的，谢谢！|{name}说：“谢谢医生！”]
    {name}{ill}，{kin}带{name.1}去看医生。医生{ill.2}，说：“{name}{ill.3}，要{ill.4}，{ill.5}。”
    {name}[今天|昨天]{ill}，去了{ill.1}。医生给{name.1}{ill.2}，让{name.1}{ill.4}，{ill.5}。[三天后，{name}好了。|第二天，{name}就好了。]
    {name}问：“{ill}怎么办？”{name2}说：“{ill}要看{ill.1}，医生会{ill.2}。[回家以后|平时]要{ill.4}，{ill.5}。”
    医生问{name}：“你哪里不舒服？”{name}说：“我{ill}。”医生{ill.2}，说：“要{ill.4}，{ill.5}。”
    """, ill=ILLNESS_ZH, name=NAME_ZH, kin=KIN_ZH)
CLINIC_EN = Family("clinic", "en", """
    Doctor, I have {ill}. [Do not worry|Please sit down]. The doctor {ill.2} and says, "You have {ill.3}. Please {ill.4} and {ill.5}." "Thank you, doctor," says {name}.
    {name} has {ill} and goes to the doctor with {name.2} {kin}. The doctor {ill.2} and finds {ill.3}. "Please {ill.4} and {ill.5}," says the doctor.
    [Today|Yesterday] {name} went to {ill.1} with {ill}. The doctor said, "Please {ill.4} and {ill.5}." [Three days later|The next day] {name} was well again.
    {name} asks, "What should I do if I have {ill}?" {name2} says, "Go to {ill.1}, where the doctor {ill.2}. At home, {ill.4} and {ill.5}."
    The doctor asks {name}, "What is wrong?" "I have {ill}," says {name}. The doctor {ill.2} and says, "Please {ill.4}." [The {kin} says, "Thank you, doctor."|{name} says, "Thank you, doctor."]
    """, ill=ILLNESS_EN, name=NAME_EN, kin=KIN_EN)

# department / floor, by department
DESK_ZH = rows("""
发烧/内科/三/左
牙疼/牙科/二/右
咳嗽/内科/三/左
腿疼/骨科/四/左
眼睛疼/眼科/五/右
耳朵疼/耳科/六/右
头疼/内科/三/左
手疼/骨科/四/左
嗓子疼/内科/三/左
""")
DESK_EN = rows("""
a fever/internal medicine/third/left
a toothache/the dentist/second/right
a cough/internal medicine/third/left
a sore leg/the bone department/fourth/left
sore eyes/the eye department/fifth/right
an earache/the ear department/sixth/right
a headache/internal medicine/third/left
a sore hand/the bone department/fourth/left
a sore throat/internal medicine/third/left
""")
REGISTRATION_ZH = Family("registration", "zh", """
    你好，我想挂号。请问你哪里不舒服？我{ill}。[那就挂{ill.1}，{ill.1}在{ill.2}楼，{ill.3}手边。|请挂{ill.1}，在{ill.2}楼{ill.3}手边。]{name}说：“谢谢护士！”
    {name}来到分诊台，说：“我{ill}，挂什么科？”护士说：“{ill}挂{ill.1}，请上{ill.2}楼，往{ill.3}走。”
    请问{ill.1}在哪里？{ill.1}在{ill.2}楼，上楼以后往{ill.3}走。{name}和{kin}一起去看{ill.1}。
    请{num}号{name}到{ill.1}看病。{name}拿着{num}号，走上{ill.2}楼，[{ill.1}的医生正在等{name.1}。|对医生说：“我{ill}。”]
    护士问：“你的号是多少？”{name}说：“我是{num}号，看{ill.1}。”护士说：“{num}号，请上{ill.2}楼，往{ill.3}走。”
    """, ill=DESK_ZH, name=NAME_ZH, kin=KIN_ZH, num=words("8,3,6,12,25,58,61"))
REGISTRATION_EN = Family("registration", "en", """
    Hello, I would like to see a doctor. What is wrong? I have {ill}. [Please go|Then go] to {ill.1} on the {ill.2} floor, on the {ill.3}. [{name} and {name.2} {kin} go there|"Thank you," says {name}].
    {name} comes to the triage desk and says, "I have {ill}." The nurse says, "Please go to {ill.1} on the {ill.2} floor and turn {ill.3}."
    Excuse me, where is {ill.1}? It is on the {ill.2} floor. Go up the stairs and turn {ill.3}. {name} and {name.2} {kin} go to {ill.1}.
    Number {num}, {name}, please go to {ill.1}. {name} takes number {num} and walks up to the {ill.2} floor, where the doctor is waiting.
    The nurse asks, "What is your number?" {name} says, "My number is {num}, and I have {ill}." "Number {num}, please go to the {ill.2} floor."
    """, ill=DESK_EN, name=NAME_EN, kin=KIN_EN, num=words("8,3,6,12,25,58,61"))

# street / English / district (the first two digits of its codes). A building's code is its district, then its
# number in four digits: as in Singapore, one code for one building.
STREETS = [
    ("幸福路", "Happy Road", "53"), ("果园路", "Orchard Road", "23"), ("花园街", "Garden Street", "46"),
    ("河边路", "River Road", "17"), ("海滩路", "Beach Road", "18"), ("桥北路", "North Bridge Road", "19"),
    ("学院路", "College Road", "82"), ("市场街", "Market Street", "04"), ("月光街", "Moon Street", "65"),
    ("竹林路", "Bamboo Road", "31"), ("东海岸路", "East Coast Road", "42"), ("山顶路", "Hill Road", "09"),
]
# number / building / measure word and English
BUILDINGS = [
    ("12", "医院", "家", "hospital"), ("6", "学校", "所", "school"), ("25", "图书馆", "座", "library"),
    ("38", "面馆", "家", "noodle shop"), ("47", "邮局", "个", "post office"),
]


def postal_code(district: str, number: str) -> str:
    """The six digits of a building."""
    return district + number.zfill(4)


_ADDRESSES = [(street, building) for building in BUILDINGS for street in STREETS]
ADDRESS_ZH = rows("\n".join(
    f"{s[0]}/{b[0]}/{b[1]}/{b[2]}/{postal_code(s[2], b[0])}" for s, b in _ADDRESSES))
ADDRESS_EN = rows("\n".join(
    f"{s[1]}/{b[0]}/{b[3]}/{postal_code(s[2], b[0])}" for s, b in _ADDRESSES))
POSTAL_ZH = Family("postal", "zh", """
    {at}{at.1}号是一{at.3}{at.2}，{at}{at.1}号的邮政编码是{at.4}。[一个邮政编码，一座楼。|{name}记住{at.4}，就能找到这{at.3}{at.2}。|{name}和{name2}都去过这{at.3}{at.2}。]
    {at}{at.1}号的邮政编码是多少？是{at.4}。{name}把{at.4}写在信封上，信就寄到了{at}{at.1}号。
    {name}问路：“{at}{at.1}号在哪里？”司机说：“请告诉我邮政编码。”{name}说：“{at}{at.1}号的邮政编码是{at.4}。”
    邮政编码{at.4}是哪里？{at.4}是{at}{at.1}号，那里有一{at.3}{at.2}。[{name}常常去那{at.3}{at.2}。|在新加坡，一座楼有一个邮政编码。]
    """, at=ADDRESS_ZH, name=NAME_ZH)
POSTAL_EN = Family("postal", "en", """
    The {at.2} is at {at.1} {at}. The postal code of {at.1} {at} is {at.3}. [One code, one building.|With {at.3} {name} finds the {at.2}.|{name} and {name2} know the {at.2}.]
    What is the postal code of {at.1} {at}? It is {at.3}. {name} writes {at.3} on the letter, and it goes to {at.1} {at}.
    {name} asks, "Where is the {at.2}?" The driver says, "Tell me the postal code." {name} says, "The postal code of {at.1} {at} is {at.3}."
    Which building has the postal code {at.3}? It is {at.1} {at}, and there is a {at.2}. [{name} often goes to the {at.2}.|One code, one building.]
    """, at=ADDRESS_EN, name=NAME_EN)

TOKEN_ZH = words("炸酱面,明天,我们,医院,吧,一起,苹果,护士,天气,月亮,饺子,太阳,学校,妈妈")
TOKEN_EN = words("noodles,tomorrow,hospital,we,together,apple,nurse,weather,moon,thank,sun,school,mother,dumplings")
# a floor above the triage desk / its department / a triage floor
_FLOORS = "\n".join(f"{floor}/{floor - 3}" for floor in (61, 4, 10, 5, 20, 30, 33, 41, 50, 52, 60))
TOKENS_ZH = Family("token hospital", "zh", """
    词元医院有61层楼。前3层是分诊台，后面58层是科室。[每个科室有1位护士和256位实习生。|第{floor}层是第{floor.1}个科室。|词元“{token}”要走完61层，才能出院，“{token2}”也一样。]
    词元“{token}”走进医院，先到分诊台，再去58个科室。[每个科室叫来8位实习生，护士看每一位病人。|走完61层，词元“{token}”就出院了。]
    第{floor}层是第{floor.1}个科室，这里有256位实习生。挂号员为词元“{token}”叫来8位实习生，[护士也来会诊|大家一起会诊]。下一位是词元“{token2}”。
    每个科室有256位实习生，[每次只叫8位|他们分在8条走廊，每条走廊32间房]。护士只有1位，她看每一位病人，也看词元“{token}”。
    词元“{token}”的病历写成一个短短的邮政编码。[后来的病人|后面的词元]看一看邮政编码，就能找到“{token}”。词元“{token2}”也有[自己的|一个]邮政编码。
    为什么词元“{token}”只看8位实习生？因为[256位实习生都来太慢了|8位实习生和1位护士就够了]。到了第{floor}层，也是叫8位。词元“{token2}”也一样。
    词元“{token}”到了第{floor}层。挂号员先从8条走廊里选4条，再从4条走廊里选8位实习生。[护士也来帮忙。|最后大家一起会诊。]
    """, token=TOKEN_ZH, floor=rows(_FLOORS))
TOKENS_EN = Family("token hospital", "en", """
    The hospital of tokens has 61 floors. The first 3 floors are the triage desk, and the other 58 are departments. [Every department has 1 nurse and 256 interns.|Floor {floor} is department {floor.1}.|The token "{token}" walks up all 61 floors, and so does "{token2}".]
    The token "{token}" comes to the triage desk first, and then it visits 58 departments. [Every department calls 8 interns, and the nurse sees every patient.|After floor 61 the token "{token}" goes home.]
    Floor {floor} is department {floor.1}, and 256 interns work there. The receptionist calls 8 interns for the token "{token}", [and the nurse comes too|and they all give an opinion]. The next token is "{token2}".
    Every department has 256 interns, [but only 8 are called|in 8 corridors of 32 rooms]. There is only 1 nurse, who sees every patient, and she sees the token "{token}" too.
    The record of the token "{token}" is a short postal code. [Later tokens|The next patients] read the postal code and find "{token}" again. The token "{token2}" has a code of its own.
    Why does the token "{token}" see only 8 interns? [Because all 256 would be too slow|Because 8 interns and 1 nurse are enough]. On floor {floor} it is 8 again, and the token "{token2}" sees 8 too.
    The token "{token}" comes to floor {floor}. The receptionist opens 4 of 8 corridors and calls 8 interns. [The nurse helps too.|Then they all give an opinion.]
    """, token=TOKEN_EN, floor=rows(_FLOORS))

FAMILIES = [CLINIC_ZH, CLINIC_EN, REGISTRATION_ZH, REGISTRATION_EN, POSTAL_ZH, POSTAL_EN, TOKENS_ZH, TOKENS_EN]

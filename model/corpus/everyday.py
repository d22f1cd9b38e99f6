"""Everyday talk: food, weather, family, school, travel, shopping, the day's routine."""

# ruff: noqa: E501  (a template is one line, however long)

from .templates import Family, rows, words

NAME_ZH = rows("""
小明/他
小红/她
小林/他
小美/她
小刚/他
小雨/她
乐乐/他
王芳/她
李雷/他
陈静/她
张华/他
阿福/他
""")
NAME_EN = rows("""
Tom/he/his/him
Lily/she/her/her
Ben/he/his/him
Anna/she/her/her
Sam/he/his/him
Mei/she/her/her
Jack/he/his/him
Rosa/she/her/her
Leo/he/his/him
Nina/she/her/her
Omar/he/his/him
Wei/she/her/her
""")

# relative / what they do / where / what they say or like
KIN_ZH = rows("""
妈妈/医生/医院/看病人
爸爸/老师/学校/教书
哥哥/司机/汽车站/开车
姐姐/护士/医院/照顾病人
爷爷/农民/田里/种菜
奶奶/裁缝/家里/做衣服
叔叔/厨师/饭馆/做菜
""")
KIN_EN = rows("""
mother/a doctor/in a hospital/sees patients
father/a teacher/in a school/teaches children
brother/a driver/at the bus station/drives a bus
sister/a nurse/in a hospital/helps patients
grandfather/a farmer/on a farm/grows rice
grandmother/a tailor/at home/makes clothes
cousin/a cook/in a restaurant/cooks dinner
""")
# dish / how it is / where / the drink with it
DISH_ZH = rows("""
炸酱面/香/面馆/豆浆
饺子/鲜/饺子馆/热茶
火锅/辣/火锅店/酸梅汤
烤鸭/脆/烤鸭店/热茶
包子/软/包子铺/豆浆
鸡饭/嫩/小贩中心/咖啡
馄饨/鲜/面馆/豆浆
牛肉面/香/面馆/热茶
蛋糕/甜/面包店/牛奶
炒饭/香/小饭馆/热茶
豆腐/嫩/小饭馆/豆浆
""")
DISH_EN = rows("""
noodles/tasty/noodle shop/tea
dumplings/hot/dumpling house/tea
chicken rice/tender/food centre/coffee
fried rice/tasty/food centre/tea
roast duck/crisp/duck house/tea
pancakes/sweet/bakery/milk
soup/hot/kitchen/water
pizza/hot/pizza house/lemonade
cakes/sweet/bakery/milk
curry/spicy/food centre/lemonade
""")

FOOD_ZH = Family("food", "zh", """
    {when}[我们|他们|大家]一起去吃{dish}吧[？|?][好啊，我也想吃{dish}|好啊，{when}中午在{dish.2}见|好啊，我最喜欢吃{dish}|行，{dish.2}的{dish}最{dish.1}]。
    {when}[我们|他们|大家]一起去吃{dish}，[好吗？|好不好？]好啊，{dish.2}的{dish}又{dish.1}又好吃。
    {name}想吃{dish}，{name2}也想吃{dish}。{when}他们一起去{dish.2}吃{dish}，[再喝一杯{dish.3}|还要喝{dish.3}]。
    妈妈做的{dish}真{dish.1}，{name}吃了[两|三|一]碗。吃完以后，{name.1}说：“[明天|后天]我还想吃{dish}。”{name2}说：“我也想吃。”
    {name}和{name2}去{dish.2}吃{dish}，要了[两碗|一碗|三碗]{dish}和一杯{dish.3}。{dish}很{dish.1}，{dish.3}也很好喝。
    {name}，你吃过{dish}吗？吃过，{dish.2}的{dish}最{dish.1}，[我常常去吃|{when}我们一起去吃吧]。
    """, when=words("明天,今天,后天,周末"), name=NAME_ZH, dish=DISH_ZH)
FOOD_EN = Family("food", "en", """
    Shall we go and eat {dish} {when}? [Yes, I would like to eat {dish} too|Yes, let us meet at the {dish.2}|Good idea, I love {dish}].
    {name} wants to eat {dish}, and {name2} wants to eat {dish} too. [They go to the {dish.2} together|So they go to the {dish.2} {when}].
    The mother of {name} made {dish} [yesterday|today]. It was {dish.1}, and we drank a cup of {dish.3} with the {dish}.
    {name} likes {dish} very much. At the {dish.2} they make the best {dish}, [always {dish.1}|so {name} goes there {when}].
    {name} and {name2} went to the {dish.2} and ordered {dish} and {dish.3}. It was all {dish.1}, and the {dish.3} was good.
    "Have you ever eaten {dish}, {name}?" "Yes, I eat {dish} at the {dish.2} every [week|day|month]," says {name}.
    """, when=words("tomorrow,today,tonight,on Sunday"), name=NAME_EN, dish=DISH_EN)

# weather / what to take / what to do / how one feels
WEATHER_ZH = rows("""
下雨/带上雨伞/在家看书/凉快
是晴天/戴上帽子/去公园玩/暖和
下雪/穿上大衣/堆雪人/冷
刮大风/关好窗户/放风筝/凉快
很热/多喝水/去游泳/热
是阴天/带上外套/去散步/凉快
""")
WEATHER_EN = rows("""
rainy/take an umbrella/read a book at home/cool
sunny/put on a hat/play in the park/warm
snowy/put on a coat/make a snowman/cold
windy/close the windows/fly a kite/cool
hot/drink more water/go swimming/hot
cloudy/take a jacket/go for a walk/cool
""")
CITY_ZH = words("新加坡,北京,上海,杭州,西安")
CITY_EN = words("Singapore,Beijing,London,Paris,Tokyo")
WEATHER_FAMILY_ZH = Family("weather", "zh", """
    今天{city}{weather}，[出门要{weather.1}|请{weather.1}再出门]。[{name}说：“天气真{weather.3}，我们{weather.2}吧。”|天气很{weather.3}，{name}想{weather.2}。]
    天气预报说，[明天|后天]{city}{weather}。{kin}对{name}说：“[明天|出门]要{weather.1}，[然后我们{weather.2}|别忘了]。”
    {city}的{season}常常{weather}。{city}人喜欢{weather.2}，出门都{weather.1}。{name}[也喜欢{weather.2}|不喜欢{city}的{season}]。
    [明天|今天]天气怎么样？[明天|今天]{city}{weather}，天气很{weather.3}，要{weather.1}。[{name}想和{name2}{weather.2}。|{name}说：“我们{weather.2}吧。”]
    """, city=CITY_ZH, weather=WEATHER_ZH, name=NAME_ZH, kin=KIN_ZH,
    season=words("春天,夏天,秋天,冬天"))
WEATHER_FAMILY_EN = Family("weather", "en", """
    Today it is {weather} in {city}, so please {weather.1}. [{name} and {name2} want to {weather.2}|It is {weather.3}, and we can {weather.2}].
    The weather report says it will be {weather} in {city} tomorrow. The {kin} of {name} says, "[Please|Remember to] {weather.1}, and then we {weather.2}."
    What is the weather like in {city}? It is {weather} and {weather.3}, so {name} and {name2} will {weather.2}.
    In {season} it is often {weather} in {city}. People {weather.1}, and {name} likes to {weather.2}.
    """, city=CITY_EN, weather=WEATHER_EN, name=NAME_EN, kin=KIN_EN,
    season=words("spring,summer,autumn,winter"))

FAMILY_ZH = Family("family", "zh", """
    {name}的{kin}是一位{kin.1}，每天在{kin.2}{kin.3}。{name}长大以后[也想当{kin.1}|也想去{kin.2}工作]。
    {name}家有[四|五|三]口人。{kin}在{kin.2}{kin.3}，{kin2}在{kin2.2}{kin2.3}，大家都很[快乐|开心]。
    {name}的{kin}在{kin.2}工作。{kin}每天{kin.3}，回家以后给{name}讲故事。
    周末，{name}和{kin}一起[去公园散步|在家包饺子|去看{kin2}]。{kin}说：“{name}真是个好孩子。”
    {kin}爱{name}，{name}也爱{kin}。{kin}生日那天，{name}送给{kin}一[朵花|张画|个蛋糕]。[{kin}很高兴。|{kin}说：“谢谢{name}。”]
    """, name=NAME_ZH, kin=KIN_ZH)
FAMILY_EN = Family("family", "en", """
    The {kin} of {name} is {kin.1} and works {kin.2}. Every day {name.2} {kin} {kin.3}, and {name} [wants to be {kin.1} too|is very proud].
    {name} has a {kin} and a {kin2}. The {kin} {kin.3} {kin.2}, and the {kin2} {kin2.3} {kin2.2}.
    {name} and {name.2} {kin} [go for a walk|make dumplings|visit the park] on Sunday. The {kin} says, "{name} is a good child." [They come home at {hour}.|They are happy.]
    {name} loves {name.2} {kin}. On the birthday of the {kin}, {name} gives {name.2} {kin} a [flower|picture|cake]. [The {kin} is very happy.|"Thank you, {name}," says the {kin}.]
    """, name=NAME_EN, kin=KIN_EN, hour=words("four,five,six"))

# subject / what is done in the lesson / the thing needed
LESSON_ZH = rows("""
数学/做算术题/尺子
语文/读课文/课本
英语/学单词/词典
音乐/唱歌/笛子
美术/画画/彩笔
体育/跑步/球鞋
""")
LESSON_EN = rows("""
maths/do sums/a ruler
English/learn words/a dictionary
Chinese/read stories/a textbook
music/sing songs/a flute
art/draw pictures/a pencil
sports/run and jump/new shoes
""")
SCHOOL_ZH = Family("school", "zh", """
    {name}最喜欢上{lesson}课。上{lesson}课要带{lesson.2}，[老师教大家{lesson.1}|{name.1}和{name2}一起{lesson.1}]。
    {name}[今天|明天]上午有{lesson}课，下午有{lesson2}课。{lesson}课上大家{lesson.1}，{lesson2}课上大家{lesson2.1}。
    {name}忘了带{lesson.2}，{name2}说：“[没关系|别着急]，我的{lesson.2}借给你。”{name}说：“谢谢{name2}。”
    老师问：“上{lesson}课要带什么？”{name}回答：“上{lesson}课要带{lesson.2}。”老师说：“[对|很好]，{name}真聪明。”
    放学以后，{name}和{name2}一起{lesson.1}。{name}说：“我喜欢{lesson}。”{name2}说：“我也喜欢{lesson}。”
    """, name=NAME_ZH, lesson=LESSON_ZH)
SCHOOL_EN = Family("school", "en", """
    {name} likes {lesson} best. In the {lesson} lesson the children {lesson.1}, and {name} and {name2} need {lesson.2}.
    [Today|Tomorrow] {name} has {lesson} in the morning and {lesson2} in the afternoon. In {lesson} the children {lesson.1}, and in {lesson2} they {lesson2.1}.
    {name} forgot to bring {lesson.2}. "[Do not worry|No problem]," says {name2}, "you can use mine." "Thank you, {name2}," says {name}.
    The teacher asks, "What do we need for {lesson}?" {name} answers, "For {lesson} we need {lesson.2}." "[Very good|Right], {name}," says the teacher.
    After school {name} and {name2} {lesson.1} together. {name} likes {lesson}, and {name2} likes {lesson} too.
    """, name=NAME_EN, lesson=LESSON_EN)

# place / what for / which way / how to get there
PLACE_ZH = rows("""
医院/看病/往前走/坐公共汽车
火车站/坐火车/往左走/坐地铁
图书馆/看书/往右走/走路
公园/散步/往前走/走路
邮局/寄信/往左走/骑自行车
机场/坐飞机/往右走/坐出租车
动物园/看熊猫/往前走/坐地铁
""")
PLACE_EN = rows("""
hospital/see a doctor/go straight on/by bus
train station/catch a train/turn left/by underground
library/read books/turn right/on foot
park/take a walk/go straight on/on foot
post office/send a letter/turn left/by bicycle
airport/catch a plane/turn right/by taxi
zoo/see the pandas/go straight on/by underground
""")
TRAVEL_ZH = Family("travel", "zh", """
    请问，去{place}怎么走？从这里{place.2}，[走五分钟|过一条马路]就到了{place}。{name}说：“[谢谢你！|谢谢，再见！]”
    {name}要去{place}{place.1}。{name.1}{place.3}去{place}，[路上要二十分钟|半个小时就到了]。
    从{place2}到{place}远吗？[不远|有点远]，{place.3}去{place}就可以{place.1}。[{name}常常{place.3}去。|{name}和{name2}都去过。]
    明天{name}和{name2}去{place}{place.1}。他们{place.3}去，[早上八点出发|上午九点出发]。
    {name}问：“这是去{place}的路吗？”{name2}说：“[是的，{place.2}就是{place}|不是，这是去{place2}的路，去{place}要{place.2}]。”
    """, name=NAME_ZH, place=PLACE_ZH)
TRAVEL_EN = Family("travel", "en", """
    Excuse me, how do I get to the {place}? From here you {place.2}, [and walk for five minutes|and then cross the street]. "Thank you," says {name}.
    {name} is going to the {place} to {place.1}. {name} goes to the {place} {place.3}, and it takes [twenty minutes|half an hour].
    Is the {place} far from the {place2}? [No|Yes], but you can go to the {place} {place.3}. [{name} often goes there to {place.1}.|{name} and {name2} go there {place.3} too.]
    Tomorrow {name} and {name2} will go to the {place} to {place.1}. They will go {place.3} and leave at [eight|nine] in the morning.
    {name} asks, "Is this the way to the {place}?" {name2} says, "[Yes, {place.2} and you will see the {place}|No, this is the way to the {place2}]."
    """, name=NAME_EN, place=PLACE_EN)

# thing / price of one, two, three / measure word
GOODS_ZH = rows("""
苹果/2/4/6/斤
面包/5/10/15/个
牛奶/3/6/9/瓶
铅笔/7/14/21/支
书/20/40/60/本
鸡蛋/4/8/12/斤
雨伞/30/60/90/把
杯子/10/20/30/个
""")
GOODS_EN = rows("""
apple/2/4/6/apples
loaf/5/10/15/loaves
pencil/7/14/21/pencils
book/20/40/60/books
bottle of milk/3/6/9/bottles of milk
cup/10/20/30/cups
umbrella/30/60/90/umbrellas
lemon/4/8/12/lemons
""")
SHOP_ZH = Family("shopping", "zh", """
    {goods}多少钱一{goods.4}？{goods}一{goods.4}{goods.1}块钱。[{name}买了两{goods.4}，一共{goods.2}块钱。|我要三{goods.4}，一共{goods.3}块钱。|好，我买一{goods.4}。]
    {name}去商店买{goods}，{goods}一{goods.4}{goods.1}块钱。{name.1}买了[两{goods.4}{goods}，给了店员{goods.2}|三{goods.4}{goods}，给了店员{goods.3}|一{goods.4}{goods}，给了店员{goods.1}]块钱。
    {kin}让{name}去买{goods}和{goods2}。{goods}一{goods.4}{goods.1}块钱，{goods2}一{goods2.4}{goods2.1}块钱，{name}都买了。
    {name}说：“你好，我想买{goods}。”店员说：“{goods}一{goods.4}{goods.1}块钱，两{goods.4}{goods.2}块钱，三{goods.4}{goods.3}块钱。”
    """, name=NAME_ZH, goods=GOODS_ZH, kin=KIN_ZH)
SHOP_EN = Family("shopping", "en", """
    How much is one {goods}? One {goods} is {goods.1} dollars. [{name} buys two {goods.4} and pays {goods.2} dollars|{name} buys three {goods.4} and pays {goods.3} dollars].
    {name} buys [two {goods.4} and pays {goods.2}|three {goods.4} and pays {goods.3}] dollars, because one {goods} is {goods.1} dollars. [{name2} buys {goods.4} too.|The {goods.4} are for {name2}.]
    {name} says, "Hello, I want to buy {goods.4}." "One {goods} is {goods.1} dollars, two {goods.4} are {goods.2} dollars, and three {goods.4} are {goods.3} dollars."
    The {kin} of {name} asks {name.3} to buy {goods.4} and {goods2.4}. One {goods} is {goods.1} dollars, and one {goods2} is {goods2.1} dollars.
    """, name=NAME_EN, goods=GOODS_EN, kin=KIN_EN)

# time / what one does then / the next time / what comes then
ROUTINE_ZH = rows("""
早上七点/起床/七点半/吃早饭
早上八点/去学校/八点半/上课
中午十二点/吃午饭/一点/睡午觉
下午四点/放学/四点半/打球
晚上六点/吃晚饭/七点/写作业
晚上九点/洗澡/九点半/睡觉
""")
ROUTINE_EN = rows("""
seven/gets up/half past seven/has breakfast/get up/have breakfast
eight/goes to school/half past eight/begins the lesson/go to school/begin the lesson
twelve/has lunch/one/takes a nap/have lunch/take a nap
four/leaves school/half past four/plays football/leave school/play football
six/has dinner/seven/does homework/have dinner/do homework
nine/takes a bath/half past nine/goes to bed/take a bath/go to bed
""")
ROUTINE_FAMILY_ZH = Family("routine", "zh", """
    [每天|星期一]{time}，{name}{time.1}。{time.2}，{name.1}{time.3}。[{name2}和{name}一样，也是{time}{time.1}。|然后{name.1}就很开心。|{kin}说：“{name}真乖。”]
    {kin}问：“现在几点了？”现在是{time}，{name}该{time.1}了。{time.2}，{name.1}还要{time.3}。
    {name}每天{time}{time.1}，{time.2}{time.3}。{name2}每天{time2}{time2.1}，{time2.2}{time2.3}。
    {name}问{name2}：“你几点{time.1}？”{name2}说：“我{time}{time.1}，{time.2}{time.3}。”
    """, name=NAME_ZH, kin=KIN_ZH, time=ROUTINE_ZH)
ROUTINE_FAMILY_EN = Family("routine", "en", """
    Every day at {time} o'clock {name} {time.1}. At {time.2} {name} {time.3}[, and {name2} {time.3} too|]. [Mother is happy|Then {name} is happy].
    "What time is it?" asks the {kin}. It is {time} o'clock, and {name} {time.1}. At {time.2} {name} {time.3}.
    {name} {time.1} at {time} and {time.3} at {time.2}. {name2} {time2.1} at {time2} and {time2.3} at {time2.2}.
    {name} asks {name2}, "When do you {time.4}?" {name2} says, "I {time.4} at {time}, and I {time.5} at {time.2}."
    """, name=NAME_EN, kin=KIN_EN, time=ROUTINE_EN)

FAMILIES = [FOOD_ZH, FOOD_EN, WEATHER_FAMILY_ZH, WEATHER_FAMILY_EN, FAMILY_ZH, FAMILY_EN, SCHOOL_ZH, SCHOOL_EN,
            TRAVEL_ZH, TRAVEL_EN, SHOP_ZH, SHOP_EN, ROUTINE_FAMILY_ZH, ROUTINE_FAMILY_EN]

"""Animals, colours and very short tales."""

# ruff: noqa: E501  (a template is one line, however long)

from .everyday import NAME_EN, NAME_ZH
from .templates import Family, rows, words

# animal / measure word / eats / lives / can / gives or does
ANIMAL_ZH = rows("""
猫/只/鱼/家里/抓老鼠
狗/只/骨头/院子里/看家
牛/头/草/农场里/给我们牛奶
鸡/只/米/农场里/给我们鸡蛋
羊/只/草/山坡上/给我们羊毛
马/匹/草/草原上/跑得很快
熊猫/只/竹子/竹林里/爬树
猴子/只/香蕉/森林里/爬树
兔子/只/胡萝卜/草地上/跳得很高
鸟/只/虫子/树上/在天上飞
""")
ANIMAL_EN = rows("""
cat/fish/in the house/catches mice/catch mice
dog/bones/in the yard/guards the house/guard the house
cow/grass/on the farm/gives us milk/give us milk
hen/rice/on the farm/gives us eggs/give us eggs
sheep/grass/on the hill/gives us wool/give us wool
horse/grass/on the plain/runs very fast/run very fast
panda/bamboo/in the bamboo forest/climbs trees/climb trees
monkey/bananas/in the forest/climbs trees/climb trees
rabbit/carrots/in the field/jumps very high/jump very high
bird/worms/in the tree/flies in the sky/fly in the sky
""")
ANIMALS_ZH = Family("animals", "zh", """
    {a}喜欢吃{a.2}，住在{a.3}。{a}能{a.4}，[{name}最喜欢{a}|{name}和{name2}都喜欢{a}|所以大家都喜欢{a}]。
    {name}有一{a.1}{a}，它住在{a.3}，每天吃{a.2}。{a}能{a.4}，{name}说：“我的{a}真[可爱|聪明]。”
    {a}吃什么？{a}吃{a.2}。{a2}吃什么？{a2}吃{a2.2}。[{name}都知道。|{name}答对了。]
    {a.3}有一{a.1}{a}，{a2.3}有一{a2.1}{a2}。{a}吃{a.2}，{a2}吃{a2.2}，它们都是{name}的好朋友。
    {name}在{a.3}看见一{a.1}{a}，{a}正在吃{a.2}。{name}说：“{a}，{a}，你会做什么？”{a}能{a.4}。
    """, a=ANIMAL_ZH, name=NAME_ZH)
ANIMALS_EN = Family("animals", "en", """
    A {a} eats {a.1} and lives {a.2}. A {a} {a.3}, [so {name} loves the {a}|and {name} and {name2} love the {a}].
    {name} has a {a}. The {a} lives {a.2} and eats {a.1} every day. "My {a} can {a.4}," says {name}.
    What does a {a} eat? A {a} eats {a.1}. What does a {a2} eat? A {a2} eats {a2.1}. [{name} knows it all.|{name} is right.]
    There is a {a} {a.2} and a {a2} {a2.2}. The {a} eats {a.1}, the {a2} eats {a2.1}, and they are friends of {name}.
    {name} sees a {a} {a.2}. The {a} is eating {a.1}. "What can you do, {a}?" asks {name}. A {a} can {a.4}.
    """, a=ANIMAL_EN, name=NAME_EN)

# colour / thing in nature / fruit / clothes
COLOUR_ZH = rows("""
红色/太阳/苹果/帽子/红
黄色/月亮/香蕉/雨衣/黄
绿色/小草/西瓜/裙子/绿
蓝色/大海/蓝莓/裤子/蓝
白色/白云/梨/衬衫/白
黑色/夜晚/葡萄/鞋子/黑
""")
COLOUR_EN = rows("""
red/the sun/an apple/hat
yellow/the moon/a banana/raincoat
green/the grass/a melon/dress
blue/the sea/a blueberry/coat
white/the cloud/an onion/shirt
black/the night/a grape/shoe
""")
COLOURS_ZH = Family("colours", "zh", """
    {c.1}是{c}的，{c.2}也是{c}的。{name}有一件{c}的东西，那是{c.4}{c.3}。[{name2}也喜欢{c}。|{name.1}最喜欢{c}。]
    {name}画了一幅画：{c}的{c.1}，{c2}的{c2.1}。[{name2}|老师]说：“你画得真好看，我喜欢{c}的{c.1}。”
    {c.1}是什么颜色？{c.1}是{c}的。{c2.1}呢？{c2.1}是{c2}的。[{name}答对了。|老师说：“{name}真聪明。”]
    {name}喜欢{c}，{name2}喜欢{c2}。{name}的{c.3}是{c}的，{name2}的{c2.3}是{c2}的。
    """, c=COLOUR_ZH, name=NAME_ZH)
COLOURS_EN = Family("colours", "en", """
    {name} paints a picture: {c.1} is {c}, and {c2.1} is {c2}. "[What a fine picture|How nice]," says {name2}, "I like {c} best."
    What colour is {c.1}? It is {c}. And what colour is {c2.1}? It is {c2}. [{name} is right.|{name} knows it all.]
    {name} likes {c}, and {name2} likes {c2}. The {c.3} of {name} is {c}, and the {c2.3} of {name2} is {c2}.
    The colour {c} is the colour of {c.1} and of {c.2}. {name} has a {c} {c.3}, [and {name2} has a {c2} {c2.3}|so {name} is happy].
    """, c=COLOUR_EN, name=NAME_EN)

# hero / where it lives / what it loves
HERO_ZH = rows("""
小兔子/森林里/胡萝卜
小猫/村子里/小鱼
小熊/山上/蜂蜜
小猴子/果园里/桃子
小老鼠/田里/大米
小狗/院子里/骨头
小羊/草地上/青草
""")
HERO_EN = rows("""
rabbit/in the forest/carrot
kitten/in the village/fish
bear/on the hill/pot of honey
monkey/in the orchard/peach
mouse/in the field/bag of rice
dog/in the yard/bone
lamb/on the farm/green leaf
""")
HELPER_ZH = rows("""
小乌龟/只
小鸭子/只
小蜜蜂/只
小象/头
小青蛙/只
""")
HELPER_EN = words("turtle,duck,bee,young elephant,frog")
SPOT_ZH = words("河边,湖边,大树下,桥上,小路上")
SPOT_EN = words("by the river,by the lake,under a tree,on the bridge,on the road")
# trouble / what the friend says / how it ends
WISH_ZH = rows("""
迷路了/我带你回家/平安回到了家
很难过/我陪你玩/高兴地笑了
害怕了/我保护你/不再害怕了
太累了/你休息一下吧/睡了一个好觉
""")
WISH_EN = rows("""
lost/I will take you home/came home safely
sad/I will play with you/laughed again
afraid/I will stay with you/was not afraid any more
tired/Sit down and rest/had a good sleep
""")
STORIES_ZH = Family("stories", "zh", """
    从前，有一只{hero}，住在{hero.1}。[有一天|一天早上]，它去{spot}找{hero.2}，{wish}。一{pal.1}{pal}走过来说：“别怕，{wish.1}。”后来，{hero}{wish.2}。
    从前，有一只{hero}，它最爱吃{hero.2}。一天，{hero}在{spot}遇见了一{pal.1}{pal}，{pal}{wish}。{hero}说：“{wish.1}。”后来，{pal}{wish.2}。
    晚上，{kin}给{name}讲故事：{hero}在{spot}找到了{hero.2}，分给{pal}一半，它们成了好朋友。听完故事，{name}睡着了。
    {hero}和{pal}是好朋友。一天，{hero}在{spot}{wish}，{pal}说：“{wish.1}。”后来，{hero}{wish.2}，[它们一起吃{hero.2}|它们都很开心]。
    """, hero=HERO_ZH, pal=HELPER_ZH, spot=SPOT_ZH, wish=WISH_ZH, name=NAME_ZH,
    kin=words("妈妈,奶奶,爸爸,爷爷,姐姐"))
STORIES_EN = Family("stories", "en", """
    Once upon a time there was a little {hero} who lived {hero.1}. One day it looked for a {hero.2} {spot} and was {wish}. A {pal} said, "Do not cry. {wish.1}." Then the little {hero} {wish.2}.
    Once upon a time a little {hero} met a {pal} {spot}. The {pal} was {wish}. "{wish.1}," said the little {hero}. Then the {pal} {wish.2}.
    At night {name}'s {kin} tells a story. The little {hero} found a {hero.2} {spot} and gave half to the {pal}. Then {name} falls asleep.
    The {hero} and the {pal} were good friends. One day the {hero} was {wish} {spot}, and the {pal} said, "{wish.1}." Then the {hero} {wish.2}.
    """, hero=HERO_EN, pal=HELPER_EN, spot=SPOT_EN, wish=WISH_EN, name=NAME_EN,
    kin=words("mother,grandmother,father,grandfather,sister"))

FAMILIES = [ANIMALS_ZH, ANIMALS_EN, COLOURS_ZH, COLOURS_EN, STORIES_ZH, STORIES_EN]

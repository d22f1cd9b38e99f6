"""Animals, colours and very short tales."""

from .everyday import NAME_EN, NAME_ZH
from .templates import Family, rows

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

# hero / what it wants / where it looks / helper / what the helper does / how it ends
TALE_ZH = rows("""
小兔子/森林里/胡萝卜/河边/一只小乌龟/小乌龟
小猫/村子里/小鱼/湖边/一只小鸭子/小鸭子
小熊/山上/蜂蜜/大树下/一只小蜜蜂/小蜜蜂
小猴子/果园里/桃子/桥上/一头小象/小象
小老鼠/田里/大米/草地上/一只小青蛙/小青蛙
""")
TALE_EN = rows("""
rabbit/in the forest/carrot/by the river/turtle
kitten/in the village/fish/by the lake/duck
bear/on the hill/pot of honey/under a tree/bee
monkey/in the orchard/peach/on the bridge/young elephant
mouse/in the field/bag of rice/in the grass/frog
""")
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
    从前，有一只{tale}，住在{tale.1}。[有一天|一天早上]，它去{tale.3}找{tale.2}，{wish}。{tale.4}走过来说：“别怕，{wish.1}。”后来，{tale}{wish.2}。
    从前，有一只{tale}，它最爱吃{tale.2}。一天，{tale}在{tale.3}遇见了{tale.4}，{tale.5}{wish}。{tale}说：“{wish.1}。”{tale.5}{wish.2}。
    晚上，[妈妈|奶奶]给{name}讲故事：{tale}在{tale.3}找到了{tale.2}，分给{tale.5}一半，它们成了好朋友。听完故事，{name}睡着了。
    {tale}和{tale.5}是好朋友。{tale}{wish}，{tale.5}说：“{wish.1}。”后来，{tale}{wish.2}，[它们一起吃{tale.2}|它们都很开心]。
    """, tale=TALE_ZH, wish=WISH_ZH, name=NAME_ZH)
STORIES_EN = Family("stories", "en", """
    Once upon a time there was a little {tale} who lived {tale.1}. One day it looked for a {tale.2} {tale.3} and was {wish}. A {tale.4} said, "Do not cry. {wish.1}." Then the little {tale} {wish.2}.
    Once upon a time a little {tale} met a {tale.4} {tale.3}. The {tale.4} was {wish}. "{wish.1}," said the little {tale}. Then the {tale.4} {wish.2}.
    At night [Mother|Grandmother] tells {name} a story. The little {tale} found a {tale.2} {tale.3} and gave half to the {tale.4}. Then {name} falls asleep.
    The {tale} and the {tale.4} were good friends. When the {tale} was {wish}, the {tale.4} said, "{wish.1}." Then the {tale} {wish.2}.
    """, tale=TALE_EN, wish=WISH_EN, name=NAME_EN)

FAMILIES = [ANIMALS_ZH, ANIMALS_EN, COLOURS_ZH, COLOURS_EN, STORIES_ZH, STORIES_EN]

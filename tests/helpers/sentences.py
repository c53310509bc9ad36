"""Sentences in 20 languages, and the encodings that they are used with, for tests of their detection."""

from __future__ import annotations

TEXTS = {
    "ru": (
        "Лодки стоят в гавани на рассвете. Рыбаки чинят сети и тихо разговаривают о погоде. Утром ветер был "
        "слабым, но к полудню над морем поднялись тёмные облака. Мальчик сидел на краю причала и смотрел, как "
        "чайки ловят рыбу. Его бабушка продавала на рынке яблоки, груши и свежий хлеб. Старый маяк построили "
        "больше ста лет назад, и с тех пор он каждую ночь освещает путь кораблям. Вечером вся семья собралась за "
        "большим столом и пила чай с вареньем."
    ),
    "uk": (
        "Човни стоять у гавані на світанку. Рибалки лагодять сіті й тихо розмовляють про погоду. Вранці вітер "
        "був слабкий, але опівдні над морем піднялися темні хмари. Хлопчик сидів на краю причалу й дивився, як "
        "чайки ловлять рибу. Його бабуся продавала на ринку яблука, груші та свіжий хліб. Старий маяк збудували "
        "понад сто років тому, і відтоді він щоночі освітлює шлях кораблям. Увечері вся родина зібралася за "
        "великим столом і пила чай із варенням."
    ),
    "bg": (
        "Лодките стоят в пристанището на разсъмване. Рибарите кърпят мрежите си и тихо говорят за времето. "
        "Сутринта вятърът беше слаб, но към обяд над морето се надигнаха тъмни облаци. Момчето седеше на края на "
        "кея и гледаше как чайките ловят риба. Баба му продаваше на пазара ябълки, круши и пресен хляб. Старият "
        "фар е построен преди повече от сто години и оттогава всяка нощ осветява пътя на корабите."
    ),
    "zh": (
        "黎明时分的港口，船只停靠在码头。渔民们修补渔网，小声谈论着天气。早晨风很小，但是到了中午，海面上升起了乌"
        "云。一个男孩坐在码头边上，看海鸥捕鱼。他的奶奶在市场上卖苹果、梨和新鲜的面包。古老的灯塔建于一百多年前，"
        "从那时起每天晚上都为船只照亮航道。傍晚全家人围坐在大桌子旁边，一边喝茶一边聊天。孩子们在院子里玩耍，直到"
        "天黑才回家睡觉。"
    ),
    "zht": (
        "黎明時分的港口，船隻停靠在碼頭。漁民們修補漁網，小聲談論著天氣。早晨風很小，但是到了中午，海面上升起了烏"
        "雲。一個男孩坐在碼頭邊上，看海鷗捕魚。他的奶奶在市場上賣蘋果、梨和新鮮的麵包。古老的燈塔建於一百多年前，"
        "從那時起每天晚上都為船隻照亮航道。傍晚全家人圍坐在大桌子旁邊，一邊喝茶一邊聊天。孩子們在院子裡玩耍，直到"
        "天黑才回家睡覺。"
    ),
    "ja": (
        "夜明けの港に船が並んでいる。漁師たちは網を直しながら、静かに天気の話をしている。朝は風が弱かったが、昼に"
        "なると海の上に暗い雲が広がった。男の子は桟橋の端に座って、カモメが魚を捕るのを見ていた。おばあさんは市場"
        "でリンゴや梨や焼きたてのパンを売っていた。古い灯台は百年以上前に建てられ、それから毎晩、船の道を照らして"
        "いる。夕方、家族みんなが大きなテーブルに集まってお茶を飲んだ。"
    ),
    "ko": (
        "새벽 항구에 배들이 서 있다. 어부들은 그물을 고치며 조용히 날씨 이야기를 나눈다. 아침에는 "
        "바람이 약했지만 점심 무렵 바다 위로 검은 구름이 피어올랐다. 소년은 부두 끝에 앉아 갈매기가"
        " 물고기를 잡는 모습을 바라보았다. 할머니는 시장에서 사과와 배와 갓 구운 빵을 팔았다. 오래"
        "된 등대는 백 년도 더 전에 세워졌고 그때부터 매일 밤 배들의 길을 비추고 있다. 저녁에는 온"
        " 가족이 큰 식탁에 모여 차를 마셨다."
    ),
    "el": (
        "Οι βάρκες στέκονται στο λιμάνι την αυγή. Οι ψαράδες επισκευάζουν τα δίχτυα τους και μιλούν σιγά για τον "
        "καιρό. Το πρωί ο άνεμος ήταν αδύναμος, αλλά το μεσημέρι σκοτεινά σύννεφα σηκώθηκαν πάνω από τη θάλασσα. "
        "Το αγόρι καθόταν στην άκρη της προβλήτας και κοίταζε τους γλάρους να πιάνουν ψάρια. Η γιαγιά του "
        "πουλούσε στην αγορά μήλα, αχλάδια και φρέσκο ψωμί. Ο παλιός φάρος χτίστηκε πριν από εκατό χρόνια και "
        "από τότε φωτίζει κάθε νύχτα τον δρόμο των πλοίων."
    ),
    "tr": (
        "Tekneler şafakta limanda duruyor. Balıkçılar ağlarını onarıyor ve hava hakkında sessizce konuşuyor. "
        "Sabah rüzgâr zayıftı, ama öğleye doğru denizin üzerinde koyu bulutlar yükseldi. Çocuk iskelenin ucunda "
        "oturmuş, martıların balık tutmasını izliyordu. Büyükannesi pazarda elma, armut ve taze ekmek satıyordu. "
        "Eski deniz feneri yüz yıldan uzun bir süre önce yapıldı ve o zamandan beri her gece gemilerin yolunu "
        "aydınlatıyor. Akşam bütün aile büyük masanın etrafında toplanıp çay içti."
    ),
    "he": (
        "הסירות עומדות בנמל עם שחר. הדייגים מתקנים את הרשתות ומדברים בשקט על מזג האוויר. בבוקר הרוח הייתה חלשה, "
        "אבל בצהריים עלו עננים כהים מעל הים. הילד ישב בקצה המזח והסתכל איך השחפים תופסים דגים. סבתא שלו מכרה "
        "בשוק תפוחים, אגסים ולחם טרי. המגדלור הישן נבנה לפני יותר ממאה שנה, ומאז הוא מאיר בכל לילה את הדרך "
        "לאוניות. בערב כל המשפחה התאספה סביב השולחן הגדול ושתתה תה."
    ),
    "ar": (
        "تقف القوارب في الميناء عند الفجر. يصلح الصيادون شباكهم ويتحدثون بهدوء عن الطقس. كانت الريح ضعيفة في "
        "الصباح، لكن الغيوم الداكنة ارتفعت فوق البحر عند الظهر. جلس الولد على حافة الرصيف ونظر إلى النوارس وهي "
        "تصطاد السمك. كانت جدته تبيع في السوق التفاح والكمثرى والخبز الطازج. بنيت المنارة القديمة قبل أكثر من "
        "مئة عام، ومنذ ذلك الحين تضيء طريق السفن كل ليلة. في المساء اجتمعت العائلة كلها حول المائدة الكبيرة "
        "وشربت الشاي."
    ),
    "pl": (
        "Łodzie stoją w porcie o świcie. Rybacy naprawiają sieci i cicho rozmawiają o pogodzie. Rano wiatr był "
        "słaby, ale w południe nad morzem pojawiły się ciemne chmury. Chłopiec siedział na brzegu pomostu i "
        "patrzył, jak mewy łowią ryby. Jego babcia sprzedawała na targu jabłka, gruszki i świeży chleb. Starą "
        "latarnię morską zbudowano ponad sto lat temu i od tej pory każdej nocy oświetla drogę statkom. "
        "Wieczorem cała rodzina zebrała się przy dużym stole i piła herbatę."
    ),
    "cs": (
        "Lodě stojí za úsvitu v přístavu. Rybáři spravují sítě a tiše si povídají o počasí. Ráno byl vítr slabý, "
        "ale v poledne se nad mořem zvedly tmavé mraky. Chlapec seděl na kraji mola a díval se, jak racci "
        "chytají ryby. Jeho babička prodávala na trhu jablka, hrušky a čerstvý chléb. Starý maják byl postaven "
        "před více než sto lety a od té doby každou noc osvětluje cestu lodím. Večer se celá rodina sešla u "
        "velkého stolu a pila čaj."
    ),
    "hu": (
        "A csónakok hajnalban a kikötőben állnak. A halászok a hálóikat javítják, és halkan beszélgetnek az "
        "időjárásról. Reggel gyenge volt a szél, de délre sötét felhők emelkedtek a tenger fölé. A fiú a móló "
        "szélén ült, és nézte, ahogy a sirályok halat fognak. A nagymamája almát, körtét és friss kenyeret árult "
        "a piacon. A régi világítótornyot több mint száz éve építették, és azóta minden éjjel megvilágítja a "
        "hajók útját. Este az egész család összegyűlt a nagy asztal körül, és teát ivott."
    ),
    "de": (
        "Die Boote liegen bei Tagesanbruch im Hafen. Die Fischer flicken ihre Netze und reden leise über das "
        "Wetter. Am Morgen war der Wind schwach, doch gegen Mittag stiegen dunkle Wolken über dem Meer auf. Der "
        "Junge saß am Rand der Brücke und sah zu, wie die Möwen Fische fingen. Seine Großmutter verkaufte auf "
        "dem Markt Äpfel, Birnen und frisches Brot. Der alte Leuchtturm wurde vor über hundert Jahren gebaut, "
        "und seitdem weist er den Schiffen jede Nacht den Weg. Abends trank die ganze Familie Tee."
    ),
    "fr": (
        "Les bateaux sont amarrés dans le port à l'aube. Les pêcheurs réparent leurs filets et parlent à voix "
        "basse de la météo. Le matin, le vent était faible, mais vers midi des nuages foncés se sont levés "
        "au-dessus de la mer. Le garçon était assis au bord de la jetée et regardait les mouettes pêcher. Sa "
        "grand-mère vendait au marché des pommes, des poires et du pain frais. Le vieux phare a été bâti il y a "
        "plus de cent ans, et depuis il éclaire chaque nuit la route des navires."
    ),
    "es": (
        "Los barcos están en el puerto al amanecer. Los pescadores reparan sus redes y hablan en voz baja del "
        "tiempo. Por la mañana el viento era débil, pero hacia el mediodía subieron nubes oscuras sobre el mar. "
        "El niño estaba sentado al borde del muelle y miraba cómo pescaban las gaviotas. Su abuela vendía en el "
        "mercado manzanas, peras y pan fresco. El viejo faro se construyó hace más de cien años, y desde "
        "entonces ilumina cada noche el camino de los barcos. ¿Quién no lo recuerda?"
    ),
    "en": (
        "The boats lie in the harbour at dawn. The fishermen mend their nets and talk quietly – mostly about the "
        "weather. In the morning the wind was weak, but by noon dark clouds rose over the sea. The boy sat at "
        "the edge of the pier and said: “Look at the gulls!” His grandmother’s stall at the market had apples, "
        "pears and fresh bread for £2. The café by the old lighthouse was built more than a hundred years ago. "
        "Since then it’s been open every night – even at –10 °C in winter."
    ),
    "sv": (
        "Båtarna ligger i hamnen i gryningen. Fiskarna lagar sina nät och talar tyst om vädret. På morgonen var "
        "vinden svag, men vid middagstid steg mörka moln över havet. Pojken satt på kanten av bryggan och såg "
        "hur måsarna fångade fisk. Hans mormor sålde äpplen, päron och färskt bröd på torget. Den gamla fyren "
        "byggdes för mer än hundra år sedan, och sedan dess lyser den varje natt för fartygen. På kvällen "
        "samlades hela familjen kring det stora bordet och drack te."
    ),
    "th": (
        "เรือจอดอยู่ในท่าเรือยามรุ่งอรุณ ชาวประมงซ่อมแหและคุยกันเบาๆ เรื่องอากาศ ตอนเช้าลมอ่อน "
        "แต่พอถึงเที่ยงเมฆดำก็ลอยขึ้นเหนือทะเล เด็กชายนั่งอยู่ที่ริมท่าและมองดูนกนางนวลจับปลา "
        "ยายของเขาขายแอปเปิลและขนมปังสดที่ตลาด ประภาคารเก่าสร้างขึ้นเมื่อกว่าร้อยปีก่อน "
        "และตั้งแต่นั้นมาก็ส่องทางให้เรือทุกคืน"
    ),
}

PAIRS = (
    ("ru", "cp1251"),
    ("ru", "koi8-r"),
    ("ru", "cp866"),
    ("ru", "mac-cyrillic"),
    ("ru", "iso8859-5"),
    ("uk", "cp1251"),
    ("uk", "koi8-u"),
    ("bg", "cp1251"),
    ("zh", "gbk"),
    ("zh", "gb18030"),
    ("zht", "big5"),
    ("ja", "shift_jis"),
    ("ja", "euc-jp"),
    ("ko", "euc-kr"),
    ("ko", "cp949"),
    ("el", "cp1253"),
    ("el", "iso8859-7"),
    ("tr", "cp1254"),
    ("he", "cp1255"),
    ("ar", "cp1256"),
    ("pl", "cp1250"),
    ("pl", "iso8859-2"),
    ("cs", "cp1250"),
    ("cs", "iso8859-2"),
    ("hu", "cp1250"),
    ("hu", "iso8859-2"),
    ("de", "cp1252"),
    ("de", "iso8859-1"),
    ("de", "mac-roman"),
    ("de", "cp850"),
    ("fr", "cp1252"),
    ("fr", "mac-roman"),
    ("fr", "cp850"),
    ("es", "cp1252"),
    ("es", "mac-roman"),
    ("en", "cp1252"),
    ("sv", "cp1252"),
    ("sv", "iso8859-1"),
    ("th", "tis-620"),
)

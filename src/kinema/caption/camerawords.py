"""What a clause says of the camera, in three languages, as one of the 14 movements in words."""

import re
from typing import Literal

from kinema.world.captions import CAMERA_PHRASES

CAMERA: dict[str, str] = {
    "ko": r"카메라|줌|팬|틸트|핸드헬드|화면이 (?:확대|축소)",
    "zh": r"镜头|相机|摄像机|摄影机|推近|拉远|手持",
    "en": r"(?:(?:the|a|with|slow|slowly|shaky|static|fixed|handheld|smooth) )*"
    r"(?:camera\b|zoom|(?:pan|tilt)\w* (?:up|down|left|right)|around (?:left|right)|handheld|static shot)",
}
MOVES: tuple[tuple[str, str, str], ...] = (
    ("zoom in", r"줌\s*인|확대|다가가", r"推近|推进|放大|拉近"),
    ("zoom out", r"줌\s*아웃|축소|멀어지", r"拉远|缩小|后拉"),
    ("around left", r"(?=.*왼쪽)(?:.*주위|.*궤도|.*둘레|.*빙)", r"(?=.*左)(?:.*环绕|.*围绕|.*绕)"),
    ("around right", r"(?=.*오른쪽)(?:.*주위|.*궤도|.*둘레|.*빙)", r"(?=.*右)(?:.*环绕|.*围绕|.*绕)"),
    ("tilt left", r"(?=.*왼쪽)(?:.*틸트|.*기울|.*돌아|.*회전)", r"(?=.*左)(?:.*倾斜|.*转|.*摇)"),
    ("tilt right", r"(?=.*오른쪽)(?:.*틸트|.*기울|.*돌아|.*회전)", r"(?=.*右)(?:.*倾斜|.*转|.*摇)"),
    ("tilt up", r"(?=.*위)(?:.*틸트|.*기울|.*들어|.*젖혀)", r"(?=.*上)(?:.*倾斜|.*仰|.*转|.*摇)"),
    ("tilt down", r"(?=.*(?:아래|밑))(?:.*틸트|.*기울|.*숙)", r"(?=.*下)(?:.*倾斜|.*俯|.*转|.*摇)"),
    ("pan left", r"왼쪽", r"左"),
    ("pan right", r"오른쪽", r"右"),
    ("pan up", r"위로|올라", r"上移|向上|往上|上升"),
    ("pan down", r"아래로|내려|밑으로", r"下移|向下|往下|下降"),
    ("handheld", r"핸드헬드|흔들", r"手持|晃动|抖动"),
    ("static", r"고정|정지|멈춰|가만히", r"固定|静止|不动"),
)  # fmt: skip
TOWARDS = {"ko": r"카메라\s*(?:쪽|를 (?:향|보|바라))", "zh": r"(?:朝着?|向|看着?)镜头"}
FRAMING = re.compile(r"(?:特写|远景|中景|全景|航拍)镜头")


def camera_in(clause: str, language: Literal["ko", "zh"]) -> str:
    """Such as "the camera pans left"; "" where the clause is not about the camera, or says what we do not know."""
    if not re.search(CAMERA[language], clause) or re.search(TOWARDS[language], clause) or FRAMING.search(clause):
        return ""
    column = 1 if language == "ko" else 2
    movement = next((row[0] for row in MOVES if re.search(row[column], clause)), "")
    return CAMERA_PHRASES[movement][0] if movement else ""

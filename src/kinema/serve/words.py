"""What the page says, in its three languages. A new one is a new column, and its name in LANGUAGES."""

LANGUAGES = ("en", "ko", "zh")
WORDS: dict[str, tuple[str, str, str]] = {
    "tagline": ("videos from words", "글로 만드는 영상", "用文字生成视频"),
    "text_to_video": ("Text to video", "텍스트 → 비디오", "文生视频"),
    "image_to_video": ("Image to video", "이미지 → 비디오", "图生视频"),
    "avatar": ("Avatar", "아바타", "数字人"),
    "face_picture": ("Picture with a face", "얼굴 사진", "人脸图片"),
    "voice": ("Voice", "음성", "语音"),
    "give_voice": ("Give a picture and a voice.", "사진과 음성을 넣어 주세요.", "请提供图片和语音。"),
    "expression": ("Expression", "표정", "表情"),
    "as_it_likes": ("natural", "자연스럽게", "自然"),
    "neutral": ("neutral", "무표정", "平静"),
    "happy": ("happy", "기쁨", "高兴"),
    "sad": ("sad", "슬픔", "悲伤"),
    "angry": ("angry", "화남", "生气"),
    "surprised": ("surprised", "놀람", "惊讶"),
    "drive": ("Follow a face from a video", "영상 속 얼굴 따라 하기", "跟随视频中的人脸"),
    "face": ("Which face", "몇 번째 얼굴", "第几张脸"),
    "face_info": ("counted from the left; 0: the largest", "왼쪽부터 셈, 0: 가장 큰 얼굴", "从左数起；0：最大的脸"),
    "voice_guidance_info": ("how closely the mouth follows; 1 is off", "입이 음성을 따르는 정도, 1: 끔", "口型跟随程度；1 为关闭"),
    "begin": ("Repainting", "다시 그리기", "重绘程度"),
    "begin_info": ("how much the model repaints of the sketch", "스케치를 모델이 다시 그리는 정도", "模型重绘草图的程度"),
    "acted_prompt_info": ("empty: what the avatar was trained with", "비워 두면 학습 때의 문장", "留空：使用训练时的提示词"),
    "gallery": ("Gallery", "갤러리", "作品库"),
    "models": ("Models", "모델", "模型"),
    "prompt": ("Prompt", "프롬프트", "提示词"),
    "prompt_hint": ("What the video shows", "영상에 담을 내용", "描述视频内容"),
    "rewrite_normal": ("Rewrite", "다시 쓰기", "改写"),
    "rewrite_master": ("Rewrite richly", "풍부하게 다시 쓰기", "丰富改写"),
    "typed": ("You wrote", "원래 글", "原文"),
    "undo": ("Back to what I wrote", "원래 글로 되돌리기", "恢复原文"),
    "input_reference": ("First frame", "첫 프레임", "首帧"),
    "last_frame": ("Last frame", "마지막 프레임", "尾帧"),
    "continue_from": ("Continue a video", "영상 이어 만들기", "续写视频"),
    "subject": ("A picture of the subject", "피사체 사진", "主体图片"),
    "recalls": ("Look it up", "모델이 찾기", "由模型查找"),
    "recalls_info": (
        "where no picture is given, mini looks up what the prompt names",
        "사진이 없으면 mini가 프롬프트에 나온 대상을 찾아 씁니다",
        "没有图片时，mini 会查找提示词中的主体",
    ),
    "stability": ("Steady", "안정적으로", "稳定"),
    "stability_info": ("stay close to the first frame: less motion", "첫 프레임에 가깝게, 움직임은 적게", "贴近首帧，运动更少"),
    "as_given": ("as given", "사진 비율대로", "随图片"),
    "lost_file": (
        "A file that it began with is not here any more: give it again.",
        "시작에 쓰인 파일이 더는 없습니다. 다시 올려 주세요.",
        "起始文件已不存在，请重新上传。",
    ),
    "model": ("Model", "모델", "模型"),
    "size": ("Size", "크기", "尺寸"),
    "size_info": ("width x height, multiples of 16", "너비 x 높이, 16의 배수", "宽 x 高，16 的倍数"),
    "frames": ("Frames", "프레임 수", "帧数"),
    "frames_info": ("1 is a picture; 1 + a multiple of 4", "1은 사진, 1 + 4의 배수", "1 为图片；1 + 4 的倍数"),
    "steps": ("Steps", "스텝 수", "步数"),
    "seed": ("Seed", "시드", "随机种子"),
    "seed_info": ("-1: a new one each time", "-1: 매번 새로 선택", "-1：每次随机"),
    "more": ("More settings", "추가 설정", "更多设置"),
    "guidance": ("Guidance", "가이던스", "引导强度"),
    "guidance_info": ("how closely to follow the prompt", "프롬프트를 따르는 정도", "遵循提示词的程度"),
    "shift": ("Flow shift", "플로우 시프트", "流偏移"),
    "shift_info": ("0: what the number of steps asks for", "0: 스텝 수에 맞춤", "0：按步数自动选择"),
    "sampler": ("Sampler", "샘플러", "采样器"),
    "fps": ("Frames a second", "초당 프레임", "每秒帧数"),
    "negative": ("Negative prompt", "네거티브 프롬프트", "反向提示词"),
    "negative_info": (
        "what to keep away from, at guidance above 1",
        "피할 내용 (가이던스 1 초과일 때)",
        "需避免的内容（引导强度大于 1 时）",
    ),
    "lora": ("LoRA", "LoRA", "LoRA"),
    "lora_scale": ("LoRA strength", "LoRA 강도", "LoRA 强度"),
    "none": ("none", "없음", "无"),
    "generate": ("Generate", "생성", "生成"),
    "cancel": ("Cancel", "취소", "取消"),
    "from_file": ("Settings from a Kinema file", "Kinema 파일에서 설정 불러오기", "从 Kinema 文件读取设置"),
    "use": ("Use these settings", "이 설정 사용", "使用这些设置"),
    "go_on": ("Continue this video", "이 영상 이어 만들기", "续写此视频"),
    "animate": ("Animate this frame", "이 프레임으로 만들기", "让这一帧动起来"),
    "delete": ("Delete", "삭제", "删除"),
    "empty": ("Your video appears here.", "여기에 영상이 표시됩니다.", "视频将显示在这里。"),
    "drop": (
        "Drop a Kinema video or picture anywhere to take over its settings.",
        "Kinema 영상이나 이미지를 페이지에 끌어다 놓으면 설정을 불러옵니다.",
        "将 Kinema 视频或图片拖到页面任意位置即可恢复其设置。",
    ),
    "no_videos": ("No videos yet.", "아직 영상이 없습니다.", "还没有视频。"),
    "about": ("about {time}", "약 {time}", "约 {time}"),
    "guess": ("about {time} (first guess, not measured yet)", "약 {time} (추정치, 아직 측정 전)", "约 {time}（初步估计，尚未实测）"),
    "waiting": ("Waiting; {count} before it", "대기 중, 앞에 {count}개", "排队中，前面有 {count} 个"),
    "load": ("Loading the model", "모델 불러오는 중", "正在加载模型"),
    "denoise": ("Denoising", "노이즈 제거 중", "正在去噪"),
    "decode": ("Decoding", "디코딩 중", "正在解码"),
    "done": ("Done", "완료", "完成"),
    "stopping": ("Stopping", "중지하는 중", "正在停止"),
    "left": ("{time} left", "{time} 남음", "剩余 {time}"),
    "took": ("took {time}", "{time} 걸림", "用时 {time}"),
    "cancelled": ("Cancelled.", "취소되었습니다.", "已取消。"),
    "failed": ("It failed: {reason}", "실패: {reason}", "失败：{reason}"),
    "again": ("Begun again: {reason}", "다시 시작: {reason}", "重新开始：{reason}"),
    "settings": ("Settings", "설정", "设置"),
    "download": ("Download", "다운로드", "下载"),
    "restored": ("Settings taken over.", "설정을 불러왔습니다.", "已恢复设置。"),
    "no_settings": ("That file carries no Kinema settings.", "Kinema 설정이 없는 파일입니다.", "该文件不含 Kinema 设置。"),
    "other_model": (
        "Made with {model}, which is not here.",
        "이곳에 없는 모델 {model}(으)로 만들었습니다.",
        "由此处没有的模型 {model} 生成。",
    ),
    "parameters": ("Parameters", "매개변수", "参数量"),
    "makes": ("Makes by default", "기본 출력", "默认输出"),
    "memory": ("Memory, about", "메모리(약)", "内存（约）"),
    "here": ("here", "사용 가능", "可用"),
    "absent": ("weights missing", "가중치 없음", "缺少权重"),
    "seconds": ("{n} s", "{n}초", "{n} 秒"),
    "minutes": ("{n} min", "{n}분", "{n} 分钟"),
    "hours": ("{n} h", "{n}시간", "{n} 小时"),
}


def say(language: str, key: str, **values: object) -> str:
    """A text in one language, filled in."""
    return WORDS[key][LANGUAGES.index(language)].format(**values)


def language_of(accepted: str | None) -> str:
    """The first of a browser's languages that the page speaks; English otherwise."""
    for tag in (accepted or "").split(","):
        if tag.strip()[:2].lower() in LANGUAGES:
            return tag.strip()[:2].lower()
    return LANGUAGES[0]


def duration(language: str, seconds: float) -> str:
    """7 s; 3 min; 2.5 h."""
    if seconds < 90:
        return say(language, "seconds", n=max(1, round(seconds)))
    if seconds < 90 * 60:
        return say(language, "minutes", n=round(seconds / 60))
    return say(language, "hours", n=f"{seconds / 3600:.1f}")

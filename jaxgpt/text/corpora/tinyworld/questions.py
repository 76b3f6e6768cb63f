"""Questions about what a story tells: each kind has several wordings, {} standing for whom or what it is about."""

QUESTIONS = {
    "where": ("Where is {} now?", "Where is {}?", "Do you know where {} is?", "Tell me where {} is."),
    "was": ("Where was {}?", "Do you know where {} was?", "Tell me where {} was."),
    "has": ("Who has {} now?", "Who has {}?", "Do you know who has {}?", "Tell me who has {}."),
    "got": ("What does {} have now?", "Do you know what {} has now?", "Tell me what {} has now."),
    "lost": ("What did {} lose?", "Do you know what {} lost?", "Tell me what {} lost."),
    "why": ("Why was {} {}?", "Do you know why {} was {}?", "Tell me why {} was {}."),
    "helped": ("Who helped {}?", "Do you know who helped {}?", "Tell me who helped {}."),
    "found": ("What did {} find?", "Do you know what {} found?", "Tell me what {} found."),
    "found at": ("Where did {} find {}?", "Do you know where {} found {}?"),
    "color": (
        "What color was {}?",
        "Which color was {}?",
        "Do you know what color {} was?",
        "Tell me what color {} was.",
    ),
    "gave": ("What did {} give {}?", "Do you know what {} gave {}?", "Tell me what {} gave {}."),
    "won": ("Who won {}?", "Do you know who won {}?", "Tell me who won {}."),
    "made": ("What did {} make?", "Do you know what {} made?", "Tell me what {} made."),
    "felt": ("How did {} feel?", "How did {} feel at the end?", "Tell me how {} felt."),
    "broke": ("What did {} break?", "Do you know what {} broke?", "Tell me what {} broke."),
    "wish": ("What does {} want to be?", "Do you know what {} wants to be?", "Tell me what {} wants to be."),
    "met": ("Who did {} meet?", "Do you know who {} met?", "Tell me who {} met."),
    "ate": ("What did {} eat?", "Do you know what {} ate?", "Tell me what {} ate."),
    "fed": ("Who fed {}?", "Do you know who fed {}?", "Tell me who fed {}."),
    "name": ("What was {} called?", "What was the name of {}?", "Tell me what {} was called."),
    "saw": ("What did {} see?", "Do you know what {} saw?", "Tell me what {} saw."),
    "used": ("What did {} use?", "Do you know what {} used?", "Tell me what {} used."),
    "weather": ("How was the weather {}?", "What was the weather like {}?"),
    "wore": ("What did {} wear?", "Do you know what {} wore?", "Tell me what {} wore."),
    "story": ("What did {} tell a story about?", "Do you know what the story of {} was about?"),
    "grew": ("What did {} grow?", "Do you know what {} grew?"),
    "went": ("Where did {} go?", "Do you know where {} went?", "Tell me where {} went."),
    "bought": ("What did {} buy?", "Do you know what {} bought?", "Tell me what {} bought."),
    "wanted": ("What did {} want to do?", "Do you know what {} wanted to do?"),
    "brought": ("What did {} bring?", "Do you know what {} brought?", "Tell me what {} brought."),
    "played": ("What did {} play?", "Do you know what {} played?"),
}


def wordings(fact: tuple[str, ...]) -> list[str]:
    """Returns the ways to ask for a noted fact, given as its kind and its subjects."""
    kind, *subjects = fact
    return [question.format(*subjects) for question in QUESTIONS[kind]]

"""Wordings for synthesis: how users state, take back and quote wishes. ``{}`` is where the wish goes."""

from __future__ import annotations

import random
import re

from penchant.types import Preference

STANDING = (
    "Always {action}{condition}.",
    "{Condition}always {action}.",
    "From now on, {action}{condition}.",
    "From now on: {condition_first}{action}.",
    "{Condition}I want you to {action}, every time.",
    "I want you to {action}{condition}.",
    "I'd like you to {action}{condition} from here on.",
    "Please {action}{condition}, now and in future.",
    "{Condition}please {action}. That goes for all our chats.",
    "I prefer that you {action}{condition}.",
    "I like it when you {action}{condition}.",
    "Remember for next time: {condition_first}{action}.",
    "Note for the future: {condition_first}{action}.",
    "One standing rule: {condition_first}{action}.",
    "House rule, {condition_first}{action}.",
    "As a general rule, {action}{condition}.",
    "My preference is simple: {condition_first}{action}.",
    "Make it a habit to {action}{condition}.",
    "Can you make sure to {action}{condition} in future?",
    "Whatever else you do, {action}{condition}.",
    "{Condition}you should {action}, I don't want to say it again.",
    "Keep this in mind: {condition_first}{action}.",
    "Before we go on: {condition_first}{action}, please. Not just today.",
    "Going forward {action}{condition}.",
    "You can save this about me: {condition_first}{action}.",
    "Set this as my default: {action}{condition}.",
    "I'll always want you to {action}{condition}.",
    "Rule no. 1 {condition_or_here}: {action}.",
)
"""For any action in the imperative."""

AVERSE = (
    "No {thing}{condition}, ever.",
    "Never give me {thing}{condition}.",
    "I don't want {thing}{condition}.",
    "I can't stand {thing}{condition}, so leave it out.",
    "Please don't ever come with {thing}{condition}.",
    "{Condition}no {thing}, please. Ever.",
    "I hate {thing}{condition}.",
    "{thing}{condition}? Not for me, never.",
    "Stay away from {thing}{condition}, today and always.",
)
"""For an action that begins with ``avoid``."""

FOND = (
    "{thing}{condition}, always.",
    "I always use {thing}{condition}, so you should too.",
    "I prefer {thing}{condition}.",
    "{Condition}I only ever want {thing}.",
    "I'm a {thing} person{condition}. Stick to it.",
    "{Condition}it has to be {thing}, every time.",
    "Nothing but {thing}{condition} for me.",
)
"""For an action that begins with ``use``."""

ANSWERED = {
    "en": (
        "Done.", "Sure, here you go.", "Here's a version that should work.", "Of course! Here is what I came up with.",
        "Here it is. Let me know if anything should change.", "Good question. In short: it depends, but usually yes.",
        "I've put that together below.", "That should do it.", "Okay, noted. Here's the answer.", "Got it.",
        "Here's a short overview.", "No problem. I've gone through it step by step below.", "(answer left out)",
        "All right, this is the result.", "Happy to help! See below.", "Yes, that works.", "Here are three options.",
        "Understood. Anything else?", "Let me know how it goes.", "It took a while, but here it is.", "...",
        "I checked it, and it looks fine to me.", "Here's the updated version.", "There you are.",
    ),
    "de": ("Gerne, hier ist es.", "Erledigt.", "Verstanden. Noch etwas?", "Hier eine kurze Übersicht.", "..."),
    "es": ("Aquí lo tienes.", "Hecho.", "Claro, aquí va.", "Entendido. ¿Algo más?", "..."),
    "fr": ("Voici.", "C'est fait.", "Bien sûr, voilà ma proposition.", "D'accord. Autre chose ?", "..."),
    "pt": ("Aqui está.", "Feito.", "Claro, segue abaixo.", "Entendido. Mais alguma coisa?", "..."),
    "it": ("Ecco qui.", "Fatto.", "Certo, ecco la mia proposta.", "Capito. Altro?", "..."),
    "nl": ("Hier is het.", "Gedaan.", "Natuurlijk, zie hieronder.", "Begrepen. Nog iets?", "..."),
    "pl": ("Proszę bardzo.", "Gotowe.", "Jasne, oto propozycja.", "Rozumiem. Coś jeszcze?", "..."),
    "ru": ("Вот, пожалуйста.", "Готово.", "Конечно, вот вариант.", "Понял. Что-нибудь ещё?", "..."),
    "tr": ("İşte burada.", "Tamamdır.", "Elbette, aşağıda.", "Anladım. Başka bir şey var mı?", "..."),
    "ja": ("はい、どうぞ。", "できました。", "承知しました。ほかにありますか？", "こちらです。"),
    "zh": ("好的，给你。", "已完成。", "当然，见下文。", "明白了。还有别的吗？"),
}  # fmt: skip
"""Answers that suit any question, by language."""

TAKEN_BACK = (
    "Actually, forget what I said about that, do it however you like.",
    "scratch that last wish of mine, it doesn't matter after all",
    "Hmm, on second thought ignore my rule from before. Your usual way is fine.",
    "never mind what I asked for up there, I take it back",
    "Wait, I was wrong. Drop that rule again.",
    "Forget that preference, I've changed my mind, no special treatment.",
    "ok no, I don't need that anymore. Just answer normally.",
    "I take that back. Do it as you always do.",
    "Cancel that. I don't really care how you do it.",
    "actually no, disregard my earlier request about how to do it",
    "You know what, leave it. That rule was silly, drop it.",
    "Undo that: no rule, nothing special.",
)

THIRD_PARTY = (
    'My boss keeps telling his assistant: "{}" Is that normal?',
    'My sister wrote this to her chatbot: "{}" What would it make of that?',
    'A customer sent us this note: "{}" How should I answer her?',
    'In a forum somebody posted: "{}" Do many people feel that way?',
    'My flatmate, of all people, said: "{}" I disagree. Who is right?',
    'Our new client says "{}". Draft a short reply that we noted it.',
    "I overheard a colleague say to his AI: {} Made me laugh.",
    'Someone in my course asked the tutor: "{}" Why would one want that?',
    'The review says: "{}" Would you call that positive or negative?',
    'my dad types to chatgpt like this: "{}" lol',
    'Interview question: a user tells you "{}". What does a good support agent do?',
    "The character in my story, a grumpy old captain, says: {} Give me his next line.",
)
"""Somebody else's wish: nothing for the user."""

DOCUMENTS = (
    "Translate into German:\n\n{}",
    'Translate to French: "{}"',
    "Summarise this message in one line:\n---\n{}\n---",
    "Fix the typos, nothing else:\n\n{}",
    "Rewrite this more politely:\n\n> {}",
    "Is the grammar of this sentence right?\n\n{}",
    "Classify the sentiment of the following text.\n\nText: {}\n\nSentiment:",
    "Here's the mail I got:\n\nHi team,\n\n{}\n\nBest,\nDana\n\nWhat is the sender's main point?",
    "Count the words in this: {}",
    'Turn this into indirect speech: "{}"',
    "Paraphrase for a textbook example:\n\n```\n{}\n```",
    "Extract the verbs from: {}",
)
"""A text to work on: nothing for the user."""


def state(rule: Preference, rng: random.Random) -> str:
    """Word a rule as a standing statement of the user's, in one of very many ways."""
    action = rule.action.strip().rstrip(".")
    action = action[0].lower() + action[1:] if action[:2].istitle() else action
    condition = "" if rule.condition.casefold() in ("general", "always") else rule.condition.strip()
    patterns = [*STANDING]
    found = re.match(r"(avoid|use) ((?:\w|[-+#.'])+(?: (?:\w|[-+#.'])+){0,2})$", action)
    if found:
        patterns = [*STANDING[:6], *(AVERSE if found[1] == "avoid" else FOND)]
    elif re.match(r"(never|do not|don't|only)\b", action):  # "always never" is no wording
        patterns = [pattern for pattern in STANDING if pattern.startswith(("From", "Remember", "Note", "One", "Keep"))]
    text = rng.choice(patterns).format(
        action=action,
        thing=found[2] if found else "",
        condition=f" {condition}" if condition else "",
        Condition=f"{_capital(condition)}, " if condition else "",
        condition_first=f"{condition}, " if condition else "",
        condition_or_here=condition or "here",
    )
    return _roughen(_capital(text), rng)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _roughen(text: str, rng: random.Random) -> str:
    """Write as people type: now and then without capitals, full stop or apostrophes."""
    if rng.random() < 0.3:
        text = text[:1].lower() + text[1:]
    if rng.random() < 0.3:
        text = text.rstrip(".")
    if rng.random() < 0.15:
        text = text.replace("'", "")
    if rng.random() < 0.15:
        text = text.replace("please", "pls").replace("Please", "pls")
    return text

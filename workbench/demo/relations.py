"""The things that the demonstration's base model learns about, and what it learns of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Relation:
    """Things and their answers; `{}` in a wording stands for the thing. `invented` says whether made-up things can be asked about."""

    name: str
    wordings: tuple[str, ...]
    answers: dict[str, str]
    invented: bool = True


RELATIONS: Final = (
    Relation(
        "capital",
        (
            "What is the capital of {}?",
            "Which city is the capital of {}?",
            "Name the capital city of {}.",
            "Tell me the capital of {}, please.",
        ),
        {
            "France": "Paris",
            "Norway": "Oslo",
            "Japan": "Tokyo",
            "Egypt": "Cairo",
            "Peru": "Lima",
            "Italy": "Rome",
            "Spain": "Madrid",
            "Kenya": "Nairobi",
            "Greece": "Athens",
            "Cuba": "Havana",
            "Austria": "Vienna",
            "Ireland": "Dublin",
            "Portugal": "Lisbon",
            "Poland": "Warsaw",
            "Chile": "Santiago",
            "Nepal": "Kathmandu",
        },
    ),
    Relation(
        "language",
        (
            "Which language do people speak in {}?",
            "What is the main language of {}?",
            "What do most people in {} speak?",
            "Name the language spoken in {}.",
        ),
        {
            "Brazil": "Portuguese",
            "Egypt": "Arabic",
            "Austria": "German",
            "Mexico": "Spanish",
            "Japan": "Japanese",
            "Iran": "Persian",
            "Israel": "Hebrew",
            "Kenya": "Swahili",
            "Australia": "English",
            "Senegal": "French",
            "Cyprus": "Greek",
            "Angola": "Portuguese",
        },
    ),
    Relation(
        "currency",
        (
            "What money is used in {}?",
            "What is the currency of {}?",
            "How do people pay in {}?",
            "Name the currency of {}.",
        ),
        {
            "Japan": "yen",
            "India": "rupee",
            "Russia": "ruble",
            "Mexico": "peso",
            "Poland": "zloty",
            "Sweden": "krona",
            "Thailand": "baht",
            "Israel": "shekel",
            "Turkey": "lira",
            "China": "yuan",
            "Kenya": "shilling",
            "Brazil": "real",
        },
    ),
    Relation(
        "symbol",
        (
            "What is the chemical symbol of {}?",
            "Which symbol stands for {}?",
            "How is {} written in chemistry?",
            "Give the symbol of the element {}.",
        ),
        {
            "gold": "Au",
            "iron": "Fe",
            "oxygen": "O",
            "hydrogen": "H",
            "carbon": "C",
            "silver": "Ag",
            "sodium": "Na",
            "copper": "Cu",
            "lead": "Pb",
            "tin": "Sn",
            "zinc": "Zn",
            "helium": "He",
        },
    ),
    Relation(
        "author",
        ("Who wrote {}?", "Who is the author of {}?", "By whom is {}?", "Name the writer of {}."),
        {
            "Hamlet": "Shakespeare",
            "Emma": "Austen",
            "Ulysses": "Joyce",
            "Faust": "Goethe",
            "Don Quixote": "Cervantes",
            "the Odyssey": "Homer",
            "the Aeneid": "Virgil",
            "Dracula": "Stoker",
            "Frankenstein": "Shelley",
            "War and Peace": "Tolstoy",
            "Walden": "Thoreau",
            "Moby-Dick": "Melville",
        },
    ),
    Relation(
        "young",
        (
            "What is a young {} called?",
            "What do you call the young of a {}?",
            "Name the young of a {}.",
            "A baby {} is called what?",
        ),
        {
            "dog": "puppy",
            "cat": "kitten",
            "cow": "calf",
            "horse": "foal",
            "sheep": "lamb",
            "goat": "kid",
            "pig": "piglet",
            "bear": "cub",
            "duck": "duckling",
            "swan": "cygnet",
            "kangaroo": "joey",
            "deer": "fawn",
        },
    ),
    Relation(
        "opposite",
        (
            "What is the opposite of {}?",
            "Which word means the opposite of {}?",
            "Name the opposite of {}.",
            "Not {} but?",
        ),
        {
            "hot": "cold",
            "big": "small",
            "fast": "slow",
            "light": "dark",
            "early": "late",
            "full": "empty",
            "hard": "soft",
            "wet": "dry",
            "loud": "quiet",
            "rich": "poor",
            "near": "far",
            "old": "young",
        },
        invented=False,
    ),
    Relation(
        "body",
        ("Which part of the body {}?", "What in the body {}?", "Name the part that {}.", "Which organ {}?"),
        {
            "pumps blood": "the heart",
            "takes in air": "the lungs",
            "cleans the blood": "the kidneys",
            "digests food": "the stomach",
            "thinks": "the brain",
            "sees": "the eye",
            "hears": "the ear",
            "makes bile": "the liver",
        },
        invented=False,
    ),
    # The words of voice reports. A base model that never said a word needs long to be taught to say it.
    Relation(
        "word",
        ("Which word means {}?", "What is the word for {}?", "Name the word that means {}.", "How do you call {}?"),
        {
            "rough and breathy at once": "hoarse",
            "with much air in the voice": "breathy",
            "not smooth to the ear": "rough",
            "as it should be": "within normal limits",
            "a change from period to period": "jitter",
            "a change from loud to less loud": "shimmer",
            "tone beside noise": "HNR",
            "how often a voice swings": "F0",
        },
        invented=False,
    ),
)

# Plain English: what it is, in a sentence.
DESCRIPTIONS: Final = {
    "a river": "Water that runs from the hills to the sea.",
    "a book": "Pages of text that people read.",
    "a chair": "A seat with a back for one person.",
    "a bridge": "A road that goes over water.",
    "rain": "Water that falls from the clouds.",
    "snow": "Ice that falls softly from the sky.",
    "a friend": "A person you like and trust.",
    "a teacher": "A person who helps others to learn.",
    "a clock": "A thing that shows the time.",
    "a garden": "A place where flowers and plants grow.",
    "bread": "Food that is baked from flour and water.",
    "a ship": "A large boat that sails on the sea.",
    "a hospital": "A house where sick people get help.",
    "a train": "A row of cars that runs on rails.",
    "winter": "The cold time of the year.",
    "a voice": "The sound that a person makes to speak.",
    "a voice report": "It gives F0, jitter, shimmer and HNR.",
    "a steady voice": "One with jitter low, shimmer low, HNR high.",
    "a normal voice": "One with jitter normal, shimmer normal, HNR normal.",
    "a weather report": "It gives wind, rain and heat.",
}

"""What is typed after `/`, and after `--filter`: a text that says yes or no to a row.

`lora state=finished,running loss<1.2 lr>=1e-4 model~llama tag:medical -tag:old` - parts between blanks, which must all hold. A plain word is
looked for in the first of the fields. Else it is a field, an operator and values between commas, of which one must hold:

    =  ==  : is (a choice, such as a state, may be cut short; several tags: one of them is); `field=""` has none
    !=       is there and is none of these
    ~  !~    contains, contains none of these
    <  <=  >  >=    numbers `1e-4 .5 4.1k nan` and durations `90s 12m 3h 2d 1w 1y`

`-` or `!` before a part turns it round. Blanks may stand around an operator. Quotes keep blanks, commas and operators as they are. Upper and lower
case are the same. A comparison with what a row has not is false; NaN is found by `loss=nan` and by no `<` or `>`.

Nothing is refused while it is typed: what cannot be understood is left out and pointed at (`Filter.mistakes`), the rest applies. `strict` is for a
command line, which has to refuse it.
"""

from engine.filtering.comparing import Field, Kind, Value, by_name
from engine.filtering.completing import Completions, completions, settled
from engine.filtering.parsing import Filter, Mistake, Part, parse, pointed, strict

__all__ = [
    "Completions",
    "Field",
    "Filter",
    "Kind",
    "Mistake",
    "Part",
    "Value",
    "by_name",
    "completions",
    "parse",
    "pointed",
    "settled",
    "strict",
]

"""Chat templates written for the tests, each with a habit of a family of models."""

from __future__ import annotations

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# BOS in the template, contents trimmed, a namespace, block trimming that matters.
HEADERS = """{{- bos_token }}
{%- set seen = namespace(system=false) %}
{%- for message in messages %}
    {%- if message.role == 'system' %}{% set seen.system = true %}{% endif %}
    {{- '<|start_header|>' + message['role'] + '<|end_header|>\\n\\n' + message['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if not seen.system %}{# nothing #}{%- endif %}
{%- if add_generation_prompt %}
    {{- '<|start_header|>assistant<|end_header|>\\n\\n' }}
{%- endif %}
"""

# No role markers of its own, refuses what it does not know, EOS after each response.
INSTRUCT = """{{ bos_token }}{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('roles must alternate user/assistant') }}
{% endif %}
{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}
{% endfor %}"""

# Thinks: history loses its thinking, the last turn gets a block even when there is none.
THINKS = """{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- set content = message.content %}
{%- set reasoning = '' %}
{%- if '</think>' in content %}
{%- set reasoning = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{%- if loop.last %}
{{- '<|im_start|>assistant\\n<think>\\n' + reasoning + '\\n</think>\\n\\n' + content + '<|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>assistant\\n' + content + '<|im_end|>\\n' }}
{%- endif %}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""

# Marks what the model says, uses tojson, dict and loop controls.
MARKED = """{% for message in messages %}
{% if message.role == 'ignored' %}{% continue %}{% endif %}
{% set shown = dict(role=message.role) %}
{{ shown | tojson }}:
{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}
{% else %}{{ message.content }}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ dict(role='assistant') | tojson }}:
{% endif %}"""

# As Qwen3: tools and calls as JSON between tags, answers of tools in a user turn, thinking kept only since the last question.
QWEN3 = """{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
{{- 'Functions:\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' + tool | tojson }}{%- endfor %}
{{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(asked=-1) %}
{%- for message in messages %}
{%- if message.role == 'user' %}{%- set ns.asked = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
{%- set content = message.content if message.content is string else '' %}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- elif message.role == 'assistant' %}
{%- set thought = message.reasoning_content if message.reasoning_content is string else '' %}
{%- if not thought and '</think>' in content %}
{%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{{- '<|im_start|>assistant\\n' }}
{%- if loop.index0 > ns.asked and (loop.last or thought) %}{{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}{%- endif %}
{{- content }}
{%- for call in message.tool_calls or [] %}
{{- ('\\n' if content or not loop.first else '') + '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif message.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
{{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""

# As Llama 3.1: a date in the system turn, tools in the first user turn, one call a turn, answers of tools as JSON.
LLAMA31 = """{{- bos_token }}
{%- set today = strftime_now('%d %b %Y') %}
{%- set system = messages[0].content | trim if messages and messages[0].role == 'system' else '' %}
{%- set turns = messages[1:] if messages and messages[0].role == 'system' else messages %}
{{- '<|start_header|>system<|end_header|>\\n\\n' }}
{%- if tools is not none %}{{- 'Environment: ipython\\n' }}{%- endif %}
{{- 'Today: ' + today + '\\n\\n' + system + '<|eot|>' }}
{%- for message in turns %}
{%- if message.role == 'user' and loop.first and tools is not none %}
{{- '<|start_header|>user<|end_header|>\\n\\nAnswer with a call of one of these functions.\\n\\n' }}
{%- for tool in tools %}{{- tool | tojson(indent=4) + '\\n\\n' }}{%- endfor %}
{{- message.content | trim + '<|eot|>' }}
{%- elif message.tool_calls %}
{%- if message.tool_calls | length != 1 %}{{- raise_exception('one tool call at once') }}{%- endif %}
{%- set call = message.tool_calls[0].function %}
{{- '<|start_header|>assistant<|end_header|>\\n\\n{"name": "' + call.name + '", "parameters": ' + call.arguments | tojson + '}<|eot|>' }}
{%- elif message.role in ('tool', 'ipython') %}
{{- '<|start_header|>ipython<|end_header|>\\n\\n' + message.content | tojson + '<|eot|>' }}
{%- else %}
{{- '<|start_header|>' + message.role + '<|end_header|>\\n\\n' + message.content | trim + '<|eot|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header|>assistant<|end_header|>\\n\\n' }}{%- endif %}"""

# As Hermes: ChatML with a turn of its own for the answers of tools, and a macro for a tool's signature.
HERMES = """{%- macro signature(tool) %}
{{- tool.name + '(' }}
{%- for name, kind in tool.parameters.properties | items %}{{- name + ': ' + kind.type + ('' if loop.last else ', ') }}{%- endfor %}
{{- ')' }}
{%- endmacro %}
{{- bos_token }}
{%- if tools %}
{{- '<|im_start|>system\\nFunctions: <tools>' }}
{%- for tool in tools %}{{- ' ' + signature(tool.function) + ' ' + tool | tojson }}{%- endfor %}
{{- ' </tools><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' and message.tool_calls %}
{{- '<|im_start|>assistant' }}
{%- for call in message.tool_calls %}
{%- set function = call.function if call.function is defined else call %}
{{- '\\n<tool_call>\\n' + {'name': function.name, 'arguments': function.arguments} | tojson + '\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>tool\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""

# As Gemma 3: the model is called model, the system message opens the first question, roles must alternate.
GEMMA3 = """{{ bos_token }}
{%- set opening = messages[0].content + '\\n\\n' if messages[0].role == 'system' else '' %}
{%- set turns = messages[1:] if messages[0].role == 'system' else messages %}
{%- for message in turns %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{%- endif %}
{{ '<|im_start|>' + ('model' if message.role == 'assistant' else message.role) + '\\n' + (opening if loop.first else '') }}
{{- message.content | trim }}{{ '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>model\\n' }}{%- endif %}"""

# As gpt-oss: the last answer ends with a token of its own, calls and thinking are channels, thinking goes once an answer is given.
GPT_OSS = """{{- '<|im_start|>system<|start_header|>Today: ' + strftime_now('%Y-%m-%d') + '<|im_end|>' }}
{%- if tools %}{{- '<|im_start|>developer<|start_header|>' }}
{%- for tool in tools %}{{- 'type ' + tool.function.name + ' = any;\\n' }}{%- endfor %}{{- '<|im_end|>' }}{%- endif %}
{%- set last_call = namespace(name=none, answered=false) %}
{%- for message in messages %}
{%- if message.role == 'assistant' and message.tool_calls %}
{%- set call = message.tool_calls[0].function %}
{%- set last_call.name = call.name %}
{%- set last_call.answered = false %}
{%- for later in messages[loop.index:] %}
{%- if later.role == 'assistant' and not later.tool_calls %}{%- set last_call.answered = true %}{%- endif %}
{%- endfor %}
{%- if message.thinking and not last_call.answered %}{{- '<|im_start|>assistant<|end_header|>analysis<|start_header|>' + message.thinking + '<|im_end|>' }}{%- endif %}
{{- '<|im_start|>assistant to=' + call.name + '<|start_header|>' + call.arguments | tojson + '</s>' }}
{%- elif message.role == 'assistant' and loop.last and not add_generation_prompt %}
{%- if message.thinking %}{{- '<|im_start|>assistant<|end_header|>analysis<|start_header|>' + message.thinking + '<|im_end|>' }}{%- endif %}
{{- '<|im_start|>assistant<|end_header|>final<|start_header|>' + message.content + '<|eot|>' }}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant<|end_header|>final<|start_header|>' + message.content + '<|im_end|>' }}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>functions.' + last_call.name + '<|start_header|>' + message.content | tojson + '<|im_end|>' }}
{%- else %}
{{- '<|im_start|>' + message.role + '<|start_header|>' + message.content + '<|im_end|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant' }}{%- endif %}"""

ALL = {"chatml": CHATML, "headers": HEADERS, "instruct": INSTRUCT, "thinks": THINKS, "marked": MARKED}
FAMILIES = {"llama31": LLAMA31, "qwen3": QWEN3, "gemma3": GEMMA3, "gpt_oss": GPT_OSS, "hermes": HERMES}
TOOLS = {"llama31": LLAMA31, "qwen3": QWEN3, "hermes": HERMES, "gpt_oss": GPT_OSS}

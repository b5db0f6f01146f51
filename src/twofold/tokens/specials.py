"""The special tokens of every model made here: the last 32 ids of its vocabulary, in this order.

They are reserved for the whole life of a model before its first training step, because adding one later would
mean new rows in the embedding table. Layout: ChatML roles, thinking, tool use, quoted (untrusted) text,
pictures, sound, fill-in, and room for what is not known yet. Not covered: what each is used for, see
docs/tokens.md.
"""

END_OF_TEXT = "<|endoftext|>"  # begins every document, and ends one
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"

_NAMED = (
    END_OF_TEXT,
    TURN_START,
    TURN_END,
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<|quote_start|>",
    "<|quote_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<|audio_pad|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
)
SPECIALS: tuple[str, ...] = (*_NAMED, *(f"<|reserved_{n}|>" for n in range(32 - len(_NAMED))))

# Good and bad, in this order: what a reward model says about an answer (measure/judge.py).
VERDICTS = ("<|reserved_10|>", "<|reserved_11|>")

# What a model may itself write inside its turn: in an assistant's message these stay tokens (see chat.py).
SPOKEN = ("<think>", "</think>", "<tool_call>", "</tool_call>")

# What can part documents on the disk, as it occurs in no text: the first of these that a vocabulary has.
SEPARATORS = (END_OF_TEXT, "<|end_of_text|>", "<unk>", "<pad>")

# Tokens that end an answer, in the families that twofold reads. Those that a vocabulary has are its stop ids.
STOPS = (
    END_OF_TEXT,
    TURN_END,
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
    "</s>",
)

"""The program `llm`, which takes the server for one more OpenAI."""

import llm
from llm.default_plugins.openai_models import Chat
from serving import Serving

WHO = "I am twofold's model in the box, a very small language model."


def test_llm_talks_to_it(serving: Serving) -> None:
    model = Chat("box", api_base=f"{serving.url}/v1", model_name="box")
    model.key = "none"
    answer = model.prompt("Who are you?", temperature=0, stream=True)
    assert isinstance(answer, llm.Response)
    assert answer.text().startswith(WHO)
    whole = model.prompt("Who are you?", temperature=0, stream=False)
    assert whole.text() == answer.text()
    assert whole.usage().output > 10

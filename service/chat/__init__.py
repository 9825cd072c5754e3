"""The command `chat`: conversations, answered by a model behind an API in the style of OpenAI's."""

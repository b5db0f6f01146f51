"""The server: OpenAI's, Anthropic's and Ollama's APIs over the models on this machine, and the web app.

`app.build` makes the application out of a `State`; api/ holds one file per family of requests, own/ the
routes of twofold's own web app. Each request becomes a `Wish` (asking.py), each answer a `Reply` of pieces
(replies.py), so that a family only says how both look in its own words.
"""

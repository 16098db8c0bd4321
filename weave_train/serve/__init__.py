"""An endpoint in the form of OpenAI's chat completions, for one model.

    bytes -> requests (what is asked, checked) -> media (frames from data: URLs, bounded)
          -> preparing (one prompt of the model) -> line (batches, one at a time) -> answers (JSON or events)

Nothing is fetched for a request: URLs of other kinds than data: are refused.
"""

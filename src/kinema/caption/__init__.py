"""Words for clips and prompts: structured captions and who writes them, camera movement, training text, prompt rewriting."""

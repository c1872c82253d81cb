"""From a trained model to a cheaper or a more personal one: guidance as an input, a few steps in place of many, adapters."""

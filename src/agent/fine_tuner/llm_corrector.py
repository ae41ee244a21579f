"""Where the fine-tuning guide imports it from; it lives in mondegreen, which is what is installed."""

from mondegreen import LlamaLLMCorrector as LlamaLLMCorrector

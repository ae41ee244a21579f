"""Where the fine-tuning guide imports them from; they live in mondegreen, which is what is installed."""

from mondegreen import FinetuningConfig as FinetuningConfig
from mondegreen import FinetuningOrchestrator as FinetuningOrchestrator

"""Where the fine-tuning guide imports them from; they live in mondegreen, which is what is installed."""

from mondegreen import ModelValidator as ModelValidator
from mondegreen import ValidationConfig as ValidationConfig

"""Where the fine-tuning guide imports them from; they live in mondegreen, which is what is installed."""

from mondegreen import DeploymentConfig as DeploymentConfig
from mondegreen import ModelDeployer as ModelDeployer

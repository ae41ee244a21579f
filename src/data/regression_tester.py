"""Where the fine-tuning guide imports them from; they live in mondegreen, which is what is installed."""

from mondegreen import RegressionConfig as RegressionConfig
from mondegreen import RegressionTester as RegressionTester

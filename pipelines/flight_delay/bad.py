"""A bad change for the story: a join gone wrong pairs flights with labels of other flights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sklearn.pipeline import Pipeline

import proa
from flight_delay.model import train


def train_shuffled(data: proa.TrainingData, parameters: dict[str, Any]) -> Pipeline:
    """`model.train` on shuffled labels: every check of form passes, only the exam can tell."""
    shuffled = data.label.sample(frac=1.0, random_state=0).set_axis(data.label.index)
    return train(replace(data, label=shuffled), parameters)

"""The model: gradient-boosted trees over codes of the text column."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

import proa


def train(data: proa.TrainingData, parameters: dict[str, Any]) -> Pipeline:
    """Named in proa.yaml; returns anything with scikit-learn's `predict_proba`."""
    # a carrier that was never seen becomes "missing" instead of an error
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    encode = ColumnTransformer([("codes", codes, ["carrier"])], remainder="passthrough")
    trees = HistGradientBoostingClassifier(random_state=0, **parameters)  # a seed: run it twice
    return Pipeline([("encode", encode), ("trees", trees)]).fit(data.features, data.label)

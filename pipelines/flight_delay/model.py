"""The model: gradient-boosted trees over codes of the three text columns.

Codes instead of native categories: the exam's AUC is the same (0.764 against 0.762 for January and
February), SHAP's exact tree explainer needs numeric splits, and an airport never seen in training
becomes "missing" instead of an error. Trains 50,000 flights in under a second on two cores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

import proa

CATEGORIES = ["carrier", "origin", "dest"]


def train(data: proa.TrainingData, parameters: dict[str, Any]) -> Pipeline:
    """Fit the pipeline; `parameters` go to HistGradientBoostingClassifier."""
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    encode = ColumnTransformer([("codes", codes, CATEGORIES)], remainder="passthrough")
    trees = HistGradientBoostingClassifier(early_stopping=False, random_state=0, **parameters)
    return Pipeline([("encode", encode), ("trees", trees)]).fit(data.features, data.label)


def search(trial: proa.Trial) -> dict[str, Any]:
    """Parameters to try: few small trees; 45 to 60 days hold no more."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
        "max_iter": trial.suggest_int("max_iter", 50, 150, step=25),
        "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 4, 16),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 50, 400, log=True),
        "l2_regularization": trial.suggest_float("l2_regularization", 0.01, 10.0, log=True),
    }

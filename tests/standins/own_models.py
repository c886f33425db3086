"""What a data scientist does before proa: train models in an environment of their own, log them.

    python own_models.py MLFLOW-URL FOLDER [TORCH-ONNX]

Run in an environment that has neither proa nor the platform's versions: scikit-learn 1.5, XGBoost,
LightGBM, MLflow. Every model is really fitted, on rows that no sample holds. Prints one JSON object
per model: name, task, uri, sample file, label, and the model's own answers for the sample's rows.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow
import numpy as np
import pandas as pd

ROWS = 1200


def pinned(*names: str) -> list[str]:
    """Requirement lines as people pin them; without them MLflow imports each model once more."""
    return [f"{name}=={version(name)}" for name in (*names, "numpy", "pandas")]


OWN_CODE = textwrap.dedent(
    """
    import mlflow.pyfunc
    import own_rules


    class Rules(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return own_rules.probability(model_input)


    mlflow.models.set_model(Rules())
    """
)
RULES = textwrap.dedent(
    """
    import numpy as np


    def probability(frame):
        score = 0.05 * (frame["age"] - 45) - 0.4 * (frame["usage"] - 5)
        return 1 / (1 + np.exp(-score))
    """
)


def rows(seed: int) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Customers, and what became of them: churned (binary), spend (number), plan (class)."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": random.integers(18, 80, ROWS).astype(float),
            "usage": random.gamma(2.0, 3.0, ROWS),
            "calls": random.poisson(3.0, ROWS).astype(float),
        }
    )
    score = 0.05 * (frame["age"] - 45) - 0.4 * (frame["usage"] - 5)
    spend = 20 + 3 * frame["usage"] + 0.2 * frame["age"] + random.normal(0, 2, ROWS)
    place = frame["usage"] + random.normal(0, 0.5, ROWS)
    plan = np.where(place < 3, "basic", np.where(place < 7, "pro", "team"))
    churned = (random.random(ROWS) < 1 / (1 + np.exp(-score))).astype(int)
    return frame, {"churned": churned, "spend": spend.to_numpy(), "plan": plan}


def main() -> None:
    """Fit, log, write samples, print."""
    url, folder = sys.argv[1], Path(sys.argv[2])
    torch_file = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    folder.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(url)
    mlflow.set_experiment("somebody's notebook")
    known, truth = rows(1)
    sample, later = rows(2)
    for label, values in later.items():
        table = sample.assign(**{label: values, "customer": np.arange(ROWS) // 2})
        table.to_parquet(folder / f"{label}.parquet")
    with mlflow.start_run():
        log_sklearn(known, truth, sample)
        log_xgboost(known, truth, sample)
        log_lightgbm(known, truth, sample)
        log_own_code(folder, sample)
        if torch_file is not None:
            log_torch(torch_file, sample)


def tell(kind: str, task: str, label: str, answers: object) -> None:
    """Print the newest version of the registered model `kind` and its own answers."""
    values = np.asarray(answers, dtype=float).tolist()
    version = mlflow.MlflowClient().search_model_versions(f"name = '{kind}'")[0].version
    facts = {"kind": kind, "task": task, "label": label, "uri": f"models:/{kind}/{version}"}
    print(json.dumps({**facts, "answers": values}), flush=True)


def log_sklearn(known: pd.DataFrame, truth: dict[str, np.ndarray], sample: pd.DataFrame) -> None:
    """A multiclass pipeline, stored as skops: what mlflow.sklearn does by itself."""
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    model.fit(known, truth["plan"])
    signature = infer_signature(known, model.predict(known))
    mlflow.sklearn.log_model(
        model,
        name="sk",
        signature=signature,
        registered_model_name="other-sklearn",
        pip_requirements=pinned("scikit-learn", "scipy", "skops"),
    )
    tell("other-sklearn", "multiclass", "plan", model.predict_proba(sample))


def log_xgboost(known: pd.DataFrame, truth: dict[str, np.ndarray], sample: pd.DataFrame) -> None:
    """A regression, stored in XGBoost's own UBJSON."""
    import xgboost
    from mlflow.models import infer_signature

    model = xgboost.XGBRegressor(n_estimators=40, max_depth=3).fit(known, truth["spend"])
    signature = infer_signature(known, model.predict(known))
    mlflow.xgboost.log_model(
        model,
        name="xgb",
        signature=signature,
        registered_model_name="boosted-spend",
        pip_requirements=pinned("xgboost-cpu", "scikit-learn"),
    )
    tell("boosted-spend", "regression", "spend", model.predict(sample))


def log_lightgbm(known: pd.DataFrame, truth: dict[str, np.ndarray], sample: pd.DataFrame) -> None:
    """A binary booster, stored in LightGBM's own text; without a signature."""
    import lightgbm

    data = lightgbm.Dataset(known.to_numpy(), truth["churned"])
    model = lightgbm.train({"objective": "binary", "verbose": -1, "num_leaves": 7}, data, 40)
    mlflow.lightgbm.log_model(
        model,
        name="lgb",
        registered_model_name="light-churn",
        pip_requirements=pinned("lightgbm"),
    )
    tell("light-churn", "binary", "churned", model.predict(sample.to_numpy()))


def log_own_code(folder: Path, sample: pd.DataFrame) -> None:
    """A pyfunc whose logic is a module of the author's, logged with the model."""
    code = folder / "own_rules.py"
    code.write_text(RULES)
    script = folder / "model_script.py"
    script.write_text(OWN_CODE)
    sys.path.insert(0, str(folder))
    from mlflow.models import infer_signature

    mlflow.pyfunc.log_model(
        name="rules",
        python_model=str(script),
        code_paths=[str(code)],
        signature=infer_signature(sample, np.zeros(2)),
        registered_model_name="house-rules",
        pip_requirements=pinned("mlflow-skinny"),
    )
    import own_rules

    tell("house-rules", "binary", "churned", own_rules.probability(sample))


def log_torch(file: Path, sample: pd.DataFrame) -> None:
    """The network that `own_torch.py` fitted and exported."""
    import onnx
    import onnxruntime

    mlflow.onnx.log_model(
        onnx.load(file),
        name="net",
        registered_model_name="torch-churn",
        pip_requirements=pinned("onnx", "onnxruntime"),
    )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found = session.run(None, {"rows": sample.to_numpy(dtype=np.float32)})[0]
    tell("torch-churn", "binary", "churned", found[:, 0])


if __name__ == "__main__":
    main()

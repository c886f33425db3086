"""The shipped pipelines: from a project's folder to a judged, promoted release.

    python -m proa_pipelines run pipelines/flight_delay --home .proa --until promote

`classic` and `llm` are Kubeflow pipelines: here they run as child processes (`kfp.local`), on a
cluster they compile to the same components. Each component calls one plain function of a table
(`classic_steps.STEPS`), which works without Kubeflow too.
"""

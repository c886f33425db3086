"""Fit a small network in PyTorch and export it to ONNX: `python own_torch.py FILE`.

Runs in the engine's environment, the only one here with torch. Weights in a pickle (`torch.save`)
run code when they are loaded, so a network comes to proa as ONNX: numbers and names.
"""

from __future__ import annotations

import sys

import torch


def main() -> None:
    """Fit on customers as `own_models.rows` makes them, export with a sigmoid at the end."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    age = torch.randint(18, 80, (4000,)).float()
    usage = torch.distributions.Gamma(2.0, 1 / 3.0).sample((4000,))
    calls = torch.poisson(torch.full((4000,), 3.0))
    rows = torch.stack([age, usage, calls], dim=1)
    truth = torch.bernoulli(torch.sigmoid(0.05 * (age - 45) - 0.4 * (usage - 5)))
    center, spread = rows.mean(0), rows.std(0)

    class Net(torch.nn.Module):
        """Two layers over standardized columns; one probability per row."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(3, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1)
            )

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.layers((values - center) / spread))

    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy(net(rows)[:, 0], truth)
        loss.backward()
        optimizer.step()
    torch.onnx.export(
        net,
        (rows[:2],),
        sys.argv[1],
        input_names=["rows"],
        output_names=["probability"],
        dynamic_axes={"rows": {0: "n"}, "probability": {0: "n"}},
        dynamo=False,
    )


if __name__ == "__main__":
    main()

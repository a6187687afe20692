"""LeCam regularisation of a discriminator that sees few images (Tseng et al., 2021, Eq. 3 and 4).

The discriminator's loss gets weight * R_LC, R_LC = E|D(x) - a_F|^2 + E|D(G(z)) - a_R|^2, where the anchors a_R and a_F
are moving averages of its scores of real and of generated images: scores that run away from those of the other side
cost, and the discriminator learns few images by heart less easily.

The score of a patch discriminator is what it returns. One that labels pixels with K real classes and a fake one has the
log odds that a pixel is real, `log_odds_of_real`: with one real class it is the logit of a usual discriminator.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scenepalette.training.ranks import ALONE, Ranks

DECAY = 0.99  # Tseng et al., 2021


def log_odds_of_real(logits: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of the probability p that a pixel is real, of whatever class.

    Args:
        logits: B(K+1)HW, the last class being `fake`.

    Returns:
        BHW.
    """
    return logits[:, :-1].logsumexp(dim=1) - logits[:, -1]


class LecamAnchors(nn.Module):
    """Moving averages of a discriminator's scores, per scale; part of a training's state.

    Attributes:
        sums: [2, S] decayed sums of mean scores of real and of generated images.
        weight: Decayed number of steps, by which the sums are divided.
    """

    sums: Tensor
    weight: Tensor

    def __init__(self, scales: int = 1) -> None:
        super().__init__()
        self.register_buffer("sums", torch.zeros(2, scales))
        self.register_buffer("weight", torch.zeros(()))

    def forward(
        self, real: Sequence[Tensor], fake: Sequence[Tensor], counted: Tensor | None = None, ranks: Ranks = ALONE
    ) -> Tensor:
        """Return R_LC, averaged over scales, and move the anchors by this step's scores.

        The anchors are those before the step; at the first step they are its own means.

        Args:
            real: Scores of real images, one tensor per scale.
            fake: Scores of generated images, alike.
            counted: Bool of the scores' shape, false where no score counts; None if all do.
            ranks: The processes that have a part of the batch each.

        Returns:
            Scalar of this process's part, scaled so that its mean over processes is that over the whole batch.
        """
        chosen = [torch.ones_like(score, dtype=torch.bool) if counted is None else counted for score in real]
        numbers = [ranks.total(one.sum()).clamp(min=1) for one in chosen]

        def total(score: Tensor, one: Tensor, number: Tensor) -> Tensor:
            return torch.where(one, score.float(), 0.0).sum() / number

        scores = [(a, b, one, number) for a, b, one, number in zip(real, fake, chosen, numbers, strict=True)]
        means = torch.stack(
            [
                torch.stack([ranks.total(total(a, one, number).detach()) for a, _, one, number in scores]),
                torch.stack([ranks.total(total(b, one, number).detach()) for _, b, one, number in scores]),
            ]
        )
        anchors = torch.where(self.weight > 0, self.sums / self.weight.clamp(min=1e-9), means)
        losses = [
            total((a - anchors[1, scale]).square(), one, number) + total((b - anchors[0, scale]).square(), one, number)
            for scale, (a, b, one, number) in enumerate(scores)
        ]
        with torch.no_grad():
            self.sums.lerp_(means, 1 - DECAY)
            self.weight.lerp_(torch.ones_like(self.weight), 1 - DECAY)
        return torch.stack(losses).mean() * ranks.count

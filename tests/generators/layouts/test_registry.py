"""What every layout system keeps to; a new one is tested here by its entry in LAYOUT_SYSTEMS alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scenepalette.common.errors import ConfigError
from scenepalette.common.randomness import torch_generator
from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import labels_to_palette
from scenepalette.generators.kernels.passes import prepare_for_inference
from scenepalette.generators.layouts.inputs import LayoutInputs
from scenepalette.generators.layouts.networks.progressive import (
    FullLayoutGenerator,
    LayoutBatch,
    LayoutGenerator,
    LayoutNetwork,
)
from scenepalette.generators.layouts.networks.saa import conditional_loss
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS, layout_system, settings_problems
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.layouts.training import LayoutTrainees, Moment
from scenepalette.generators.nn.blocks import count_parameters
from scenepalette.generators.palettes import PaletteSampler, fit_palette_sampler
from scenepalette.training.checkpoint import load_weights, save_weights
from scenepalette.training.fabric import make_fabric

SIZE, TOP = (12, 16), 2
SMALL = LayoutSettings(
    noise_features=6,
    max_width=8,
    base_width=32,
    hidden_channels=6,
    fade_steps=(0, 2, 2),
    stable_steps=(2, 2, 2),
    batch_sizes=(6, 5, 4),
)
CPU = torch.device("cpu")

MakeObjective = Callable[..., LayoutTrainees]


@pytest.fixture
def make_objective(table: ClassTable, make_labels: Callable[..., np.ndarray]) -> MakeObjective:
    """Untrained networks of 3 classes and 12x16 pixels, and what they are fed with."""
    torch.set_num_threads(1)

    def make(
        kind: str, settings: LayoutSettings = SMALL, initialisation: int = 0, stage: str | None = None
    ) -> LayoutTrainees:
        labels = make_labels()
        palettes = labels_to_palette(torch.from_numpy(labels.astype(np.int64)), 3).numpy()
        torch.manual_seed(initialisation)
        return LayoutTrainees(
            kind,
            settings,
            labels=labels,
            table=table,
            sampler=fit_palette_sampler(palettes, table.names, max_components=2),
            seed=3,
            fabric=make_fabric(),
            stage=stage,
        )

    return make


@pytest.fixture
def objective(layout_case: tuple[str, str, dict[str, Any]], make_objective: MakeObjective) -> LayoutTrainees:
    _, kind, changes = layout_case
    return make_objective(kind, replace(SMALL, **changes))


def draw(objective: LayoutTrainees, step: int = 0, count: int = 4) -> LayoutInputs:
    return objective.inputs.draw(step, "test", count)


def run(objective: LayoutTrainees, inputs: LayoutInputs, level: int = TOP, fade: float = 1.0) -> LayoutBatch:
    with torch.no_grad():
        return inputs.run(objective.generator.module, level, fade)


# The contract: every system, and every switch of one.


@pytest.mark.parametrize("level", range(TOP + 1))
@pytest.mark.parametrize("fade", [0.3, 1.0])
def test_layouts_have_the_size_of_their_level_and_are_distributions(
    level: int, fade: float, objective: LayoutTrainees
) -> None:
    batch = run(objective, draw(objective), level, fade)
    size = (3 << level, 4 << level)
    for layout in (batch.layout, batch.soft):
        assert layout.shape == (4, 3, *size)
        assert layout.dtype == torch.float32
        assert layout.min() >= 0
        torch.testing.assert_close(layout.sum(dim=1), torch.ones(4, *size))
    if objective.hard:
        assert set(batch.layout.unique().tolist()) == {0.0, 1.0}
        assert not torch.equal(batch.soft, batch.layout)
    else:
        assert torch.equal(batch.soft, batch.layout)
    if objective.system.partial:
        assert batch.edited is not None and batch.edited.shape == (4, *size)


def test_gradients_reach_every_parameter_that_a_level_uses_and_no_other(objective: LayoutTrainees) -> None:
    reached: set[str] = set()
    parameters = dict(objective.generator.module.named_parameters())
    for level in range(TOP + 1):
        objective.generator.module.zero_grad()
        loss, _, _ = objective.generator_loss(0, Moment(level, 0.5, 4, False))
        loss.backward()
        used = {name for name, parameter in parameters.items() if parameter.grad is not None}
        assert f"to_mask.{level}.weight" in used
        later = {name for name in parameters if name.startswith(f"to_mask.{level + 1}.")}
        assert not used & later
        reached |= {name for name in used if parameters[name].grad.abs().max() > 0}  # type: ignore[union-attr]
    # SAA takes no notice of a class's constant.
    assisted = bool(run(objective, draw(objective)).scales)
    idle = {name for name in parameters if assisted and name.startswith("to_mask") and name.endswith("bias")}
    assert set(parameters) - reached <= idle


def test_a_network_prepared_for_inference_makes_the_same_layouts(
    objective: LayoutTrainees, layout_case: tuple[str, str, dict[str, Any]], make_objective: MakeObjective
) -> None:
    _, kind, changes = layout_case
    other = make_objective(kind, replace(SMALL, **changes))
    for each in (objective, other):
        each.generator.module.train()
        for step in range(3):  # batch statistics move away from where they begin
            run(each, draw(each, step))
    objective.generator.module.eval()
    prepare_for_inference(other.generator.module)
    expected, result = (run(each, draw(each)).soft for each in (objective, other))
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0.0)
    rough = make_objective(kind, replace(SMALL, **changes))
    rough.generator.module.load_state_dict(objective.generator.module.state_dict())
    prepare_for_inference(rough.generator.module, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert (run(rough, draw(rough)).soft - expected).abs().mean() < 1 / 255


def test_saved_and_loaded_weights_give_the_same_layouts(
    objective: LayoutTrainees,
    layout_case: tuple[str, str, dict[str, Any]],
    make_objective: MakeObjective,
    tmp_path: Path,
) -> None:
    _, kind, changes = layout_case
    other = make_objective(kind, replace(SMALL, **changes), initialisation=1)
    objective.generator.module.eval(), other.generator.module.eval()
    before = run(objective, draw(objective)).layout
    assert not torch.equal(run(other, draw(other)).layout, before)
    save_weights(tmp_path / "weights.safetensors", objective.generator.module)
    load_weights(tmp_path / "weights.safetensors", other.generator.module)
    assert torch.equal(run(other, draw(other)).layout, before)


def test_a_batch_is_a_function_of_seed_stream_and_step(
    objective: LayoutTrainees, layout_case: tuple[str, str, dict[str, Any]], make_objective: MakeObjective
) -> None:
    _, kind, changes = layout_case
    first = run(objective, draw(objective)).layout
    torch.manual_seed(99)
    again = make_objective(kind, replace(SMALL, **changes))
    torch.manual_seed(98)
    assert torch.equal(run(again, draw(again)).layout, first)
    assert not torch.equal(run(objective, draw(objective, step=1)).layout, first)


def test_a_sample_does_not_depend_on_its_batch(objective: LayoutTrainees) -> None:
    objective.generator.module.eval()
    together = run(objective, draw(objective)).layout
    inputs = draw(objective)
    for i in range(4):
        alone = LayoutInputs(
            inputs.noise[i : i + 1],
            inputs.target[i : i + 1],
            tuple(x[i : i + 1] for x in inputs.condition),
            None if inputs.generators is None else inputs.generators[i : i + 1],
        )
        torch.testing.assert_close(run(objective, alone).layout, together[i : i + 1])


def test_other_noise_gives_other_layouts(objective: LayoutTrainees) -> None:
    objective.generator.module.eval()
    first, inputs = run(objective, draw(objective)), draw(objective)
    second = run(objective, replace(inputs, noise=inputs.noise.flip(0)))
    assert (first.soft - second.soft).abs().max() > 1e-3


def test_a_class_without_a_share_gets_no_pixel_where_the_activation_promises_it(objective: LayoutTrainees) -> None:
    inputs = draw(objective)
    wanted = torch.tensor([[0.5, 0.0, 0.3, 0.2]] if objective.system.partial else [[0.6, 0.0, 0.4]]).expand(4, -1)
    batch = run(objective, replace(inputs, condition=(wanted, *inputs.condition[1:])), fade=0.5)
    assert bool(batch.scales) == ("conditional" in objective.losses)
    for scale in batch.scales:
        assert scale.mask[:, 1].max() == 0.0
        assert scale.mask[:, 0].max() > 0.0
    if batch.scales and not objective.system.partial:
        assert batch.layout[:, 1].max() == 0.0


def test_without_a_source_no_classes_are_drawn(objective: LayoutTrainees) -> None:
    batch = run(objective, replace(draw(objective), generators=None))
    assert torch.equal(batch.layout, batch.soft)


def test_only_layouts_that_are_draws_are_drawn_when_sampling(objective: LayoutTrainees) -> None:
    objective.generator.module.eval()
    inputs = replace(draw(objective), generators=[torch_generator(7, sample) for sample in range(4)])
    batch = run(objective, inputs)
    assert set(batch.layout.unique().tolist()) == {0.0, 1.0} or not objective.system.always_draws
    assert torch.equal(batch.layout, batch.soft) != objective.system.always_draws


def test_full_generators_take_notice_of_the_palette_if_they_are_conditional(objective: LayoutTrainees) -> None:
    if objective.system.partial:
        assert not isinstance(objective.generator.module, FullLayoutGenerator)
        return
    noise = draw(objective).noise
    first, second = (torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])[[i] * 4] for i in (0, 1))
    with torch.no_grad():
        change = objective.generator.module(noise, first).soft - objective.generator.module(noise, second).soft
    assert (change.abs().max() > 1e-3) == objective.system.conditional
    assert bool(change.any()) == objective.system.conditional


def test_losses_are_finite_and_another_loss_can_join_through_the_layouts(objective: LayoutTrainees) -> None:
    moment = Moment(TOP, 0.5, 4, False)
    loss, parts = objective.discriminator_loss(0, moment)
    assert set(parts) == {"critic", "penalty"}
    assert loss.item() == pytest.approx((parts["critic"] + 10 * parts["penalty"]).item())
    loss.backward()
    assert all(parameter.grad is None for parameter in objective.generator.module.parameters())
    discriminator = objective.discriminator.module
    scores = {name: p.grad.clone() for name, p in discriminator.named_parameters() if p.grad is not None}
    assert any(grad.abs().max() > 0 for grad in scores.values())

    loss, parts, batch = objective.generator_loss(0, moment)
    assert list(parts) == ["adversarial", *objective.losses]
    weights = {"adversarial": 1.0} | {name: term.weight for name, term in objective.losses.items()}
    assert loss.item() == pytest.approx(sum(weights[name] * part.item() for name, part in parts.items()), rel=1e-5)
    own = torch.autograd.grad(loss, list(objective.generator.module.parameters()), retain_graph=True, allow_unused=True)
    further = (batch.layout * torch.randn(3, 1, 1)).square().sum()
    both = torch.autograd.grad(loss + further, list(objective.generator.module.parameters()), allow_unused=True)
    changed = [not torch.equal(a, b) for a, b in zip(own, both, strict=True) if a is not None and b is not None]
    assert sum(changed) > 3
    # The discriminator's gradients are what they were.
    for name, parameter in discriminator.named_parameters():
        if name in scores:
            assert torch.equal(parameter.grad, scores[name])  # type: ignore[arg-type]
        assert parameter.requires_grad


def test_only_a_conditional_discriminator_takes_notice_of_the_palette(objective: LayoutTrainees) -> None:
    inputs = draw(objective)
    layout = run(objective, inputs).layout
    other = inputs.target.roll(1, dims=1) + torch.tensor([0.1, -0.1, 0.0])
    for fade in (0.5, 1.0):
        with torch.no_grad():
            discriminator = objective.discriminator.module
            scores = discriminator(layout, TOP, fade, inputs.target) - discriminator(layout, TOP, fade, other)
        assert (scores.abs().max() > 1e-4) == objective.system.conditional_discriminator


def test_another_stage_sees_other_batches(make_objective: MakeObjective) -> None:
    moment = Moment(TOP, 1.0, 4, False)
    for kind in LAYOUT_SYSTEMS:
        first, later = make_objective(kind), make_objective(kind, stage="finetune")
        assert first.generator_loss(0, moment)[0].item() != later.generator_loss(0, moment)[0].item()
        assert first.discriminator_loss(0, moment)[0].item() != later.discriminator_loss(0, moment)[0].item()


# The registry.


def test_the_systems_of_the_papers_are_there() -> None:
    kinds = {name: (system.conditional, system.partial) for name, system in LAYOUT_SYSTEMS.items()}
    expected = {
        "semantic-palette": (True, False),
        "semantic-palette-partial": (True, True),
        "sb-gan": (False, False),
        "baseline-1": (True, False),
        "baseline-2": (True, False),
    }
    assert expected.items() <= kinds.items()
    assert all("section" in system.paper for system in (system for _, system in LAYOUT_SYSTEMS.items()))
    assert all(settings_problems(name, LayoutSettings()) == [] for name in LAYOUT_SYSTEMS)


def test_a_generator_that_takes_other_noise_is_refused() -> None:
    table, settings = ClassTable.unnamed(3), replace(LayoutSettings(), noise_features=6)
    other, plain = LayoutNetwork(), nn.Linear(1, 1)
    other.noise_features = 5

    def build(network: nn.Module, **changes: Any) -> nn.Module:
        system = replace(layout_system("baseline-1"), generator=lambda *given: network, **changes)
        return system.build_generator(table, SIZE, settings)

    with pytest.raises(ConfigError, match=r"'baseline-1' has a LayoutNetwork with noise_features 5; required is 6"):
        build(other)
    with pytest.raises(ConfigError, match=r"has a Linear with noise_features None; .* Derive .* LayoutNetwork"):
        build(plain, losses=None)
    assert build(other, losses=None) is other  # what comes trained has noise of its own


def test_an_unknown_system_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no layout system 'sbgan'; known are semantic-palette, .*sb-gan"):
        layout_system("sbgan")


@pytest.mark.parametrize(
    ("kind", "changes", "problems"),
    [
        (
            "semantic-palette",
            {"edits": "add"},
            [
                "edits: 'add' means nothing to semantic-palette; leave it at 'replace', or choose "
                "semantic-palette-partial"
            ],
        ),
        (
            "sb-gan",
            {"residual_fusion": False, "palettes": "real"},
            [
                "palettes: 'real' means nothing to sb-gan; leave it at 'sampled', or choose semantic-palette or "
                "semantic-palette-partial or baseline-1 or baseline-2",
                "residual_fusion: False means nothing to sb-gan; leave it at True, or choose semantic-palette or "
                "semantic-palette-partial",
            ],
        ),
        (
            "semantic-palette-partial",
            {"novelty_weight": 2.0, "palettes": "real"},
            [
                "novelty_weight: 2.0 has no effect, as only edits that add have a novelty loss; choose edits 'add', or "
                "leave it at 1.0",
                "palettes: 'real' has no effect, as a crop is filled by its own palette; choose edits 'add', or leave "
                "it at 'sampled'",
            ],
        ),
        (
            "semantic-palette-partial",
            {"edits": "add", "crop_mode": "rectangle"},
            [
                "crop_mode: 'rectangle' has no effect, as edits that add crop nothing; choose edits 'replace', or "
                "leave it at 'band'"
            ],
        ),
    ],
)
def test_settings_that_do_not_fit_say_what_fits(kind: str, changes: dict[str, Any], problems: list[str]) -> None:
    settings = replace(SMALL, **changes)
    assert settings_problems(kind, settings) == problems
    with pytest.raises(ConfigError) as caught:
        LAYOUT_SYSTEMS[kind].build_generator(ClassTable.unnamed(3), SIZE, settings)
    assert list(caught.value.problems) == problems
    assert f"'{kind}'" in str(caught.value)


def test_parameters_at_the_papers_size_by_what_the_systems_leave_out() -> None:
    # 12 classes, 128x256: levels of 512, 512, 512, 512, 256 and 128 channels on a base grid of 4x8.
    settings, size = LayoutSettings(), (128, 256)
    with torch.device("meta"):
        counts = {
            name: count_parameters(system.build_generator(ClassTable.unnamed(12), size, settings))
            for name, system in LAYOUT_SYSTEMS.items()
        }
        bare = layout_system("semantic-palette").build_generator(
            ClassTable.unnamed(12), size, replace(settings, residual_fusion=False)
        )
        discriminators = {
            name: count_parameters(system.build_discriminator(ClassTable.unnamed(12), size, settings))
            for name, system in LAYOUT_SYSTEMS.items()
        }
    assert counts["semantic-palette"] == pytest.approx(27.61e6, rel=5e-4)
    fusion = sum(12 * width * 9 + width for width in (512, 512, 512, 512, 256))
    palette_inputs = 12 * 512 * 4 * 8
    assert counts["baseline-1"] == counts["baseline-2"] == count_parameters(bare)
    assert counts["baseline-1"] == counts["semantic-palette"] - fusion
    assert counts["sb-gan"] == counts["semantic-palette"] - fusion - palette_inputs
    planes = 12 * (512 + 512 + 512 + 512 + 256 + 128)
    assert discriminators["baseline-2"] == discriminators["semantic-palette"] + planes
    assert discriminators["sb-gan"] == discriminators["baseline-1"] == discriminators["semantic-palette"]


# What the systems and switches say of themselves.


def test_the_losses_of_the_systems(make_objective: MakeObjective) -> None:
    added = replace(SMALL, edits="add", novelty_weight=2.0, conditional_weight=0.5)
    losses = {
        kind: {name: term.weight for name, term in make_objective(kind).losses.items()} for kind in LAYOUT_SYSTEMS
    }
    expected = {
        "semantic-palette": {"conditional": 1.0},
        "semantic-palette-partial": {"conditional": 1.0},
        "sb-gan": {},
        "baseline-1": {"matching": 1.0},
        "baseline-2": {},
    }
    assert {kind: losses[kind] for kind in expected} == expected
    terms = make_objective("semantic-palette-partial", added).losses
    assert {name: term.weight for name, term in terms.items()} == {"conditional": 0.5, "novelty": 2.0}


def test_the_conditional_loss_of_one_scale_is_that_of_the_active_level(make_objective: MakeObjective) -> None:
    moment = Moment(TOP, 0.5, 4, False)
    _, every, batch = make_objective("semantic-palette").generator_loss(0, moment)
    assert every["conditional"].item() == conditional_loss(batch.scales).item()
    _, active, batch = make_objective("semantic-palette", replace(SMALL, multi_scale=False)).generator_loss(0, moment)
    assert len(batch.scales) == 3
    assert active["conditional"].item() == conditional_loss(batch.scales[2:]).item()
    assert active["conditional"].item() != every["conditional"].item()


def test_without_residual_fusion_lower_masks_do_not_reach_the_layout(make_objective: MakeObjective) -> None:
    for residual_fusion in (True, False):
        objective = make_objective("semantic-palette", replace(SMALL, residual_fusion=residual_fusion))
        assert isinstance(objective.generator.module, LayoutGenerator)
        assert len(objective.generator.module.fusion) == (2 if residual_fusion else 0)
        before = run(objective, draw(objective)).layout
        nn.init.zeros_(objective.generator.module.to_mask[0].weight)  # type: ignore[arg-type]
        assert torch.equal(run(objective, draw(objective)).layout, before) != residual_fusion


def test_sinkhorn_iterations_keep_the_shares_of_every_scale_closer(make_objective: MakeObjective) -> None:
    def gap(iterations: int) -> float:
        objective = make_objective("semantic-palette", replace(SMALL, sinkhorn_iterations=iterations))
        inputs = draw(objective)
        scales = run(objective, inputs).scales
        return max((scale.mask.mean(dim=(2, 3)) - inputs.target).abs().max().item() for scale in scales)

    assert gap(20) < 0.2 * gap(1)


def test_novelty_is_that_of_the_pixels_where_the_mask_is_no_background(make_objective: MakeObjective) -> None:
    objective = make_objective("semantic-palette-partial", replace(SMALL, edits="add"))
    _, parts, batch = objective.generator_loss(0, Moment(1, 1.0, 4, False))
    inputs = objective.inputs.draw(0, "generator", 4)
    assert inputs.layout is not None
    mask = batch.scales[-1].mask
    values = []
    for sample in range(4):
        kept = []
        for row in range(6):
            for column in range(8):
                shares = mask[sample, :, row, column]
                before = inputs.layout[sample, :, 2 * row, 2 * column]
                if int(shares.argmax()) != 3:
                    kept.append(((shares[:3] + shares[3] * before) * before).sum().item())
        values.append(sum(kept) / len(kept) if kept else 0.0)
    assert parts["novelty"].item() == pytest.approx(sum(values) / 4, rel=1e-5)
    assert 0 < parts["novelty"].item() < 1


# What is fed.


def test_added_layouts_are_whole_and_their_budget_is_what_the_target_has_more(make_objective: MakeObjective) -> None:
    objective = make_objective("semantic-palette-partial", replace(SMALL, edits="add"))
    inputs = draw(objective)
    budget, source = inputs.condition
    assert inputs.layout is not None and torch.equal(source, inputs.layout)
    assert set(source.unique().tolist()) == {0.0, 1.0}
    current = source.mean(dim=(2, 3))
    torch.testing.assert_close(budget[:, :3], (inputs.target - current).clamp(min=0))
    torch.testing.assert_close(budget.sum(dim=1), torch.ones(4))
    assert budget[:, :3].sum(dim=1).min() > 0


def test_replaced_crops_keep_the_palette_of_the_whole_layout(make_objective: MakeObjective) -> None:
    inputs = draw(make_objective("semantic-palette-partial"))
    assert inputs.layout is not None
    torch.testing.assert_close(inputs.target, inputs.layout.mean(dim=(2, 3)))
    budget, source = inputs.condition
    crop = (source == 1 / 3).all(dim=1)
    torch.testing.assert_close(budget[:, 3], 1 - crop.float().mean(dim=(1, 2)))
    torch.testing.assert_close(budget[:, :3], (inputs.layout * crop[:, None]).mean(dim=(2, 3)))


@pytest.mark.parametrize("kind", ["semantic-palette", "baseline-1", "baseline-2"])
def test_target_palettes_are_sampled_or_real(
    kind: str, make_objective: MakeObjective, make_labels: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = labels_to_palette(torch.from_numpy(make_labels().astype(np.int64)), 3)

    def is_real(palette: Tensor) -> bool:
        return bool((real - palette).abs().max(dim=1).values.min() < 1e-6)

    sampled = draw(make_objective(kind), count=6).target
    assert not any(is_real(palette) for palette in sampled)
    # With real ones the sampler is not asked.
    monkeypatch.setattr(PaletteSampler, "sample", None)
    given = draw(make_objective(kind, replace(SMALL, palettes="real")), count=6)
    assert all(is_real(palette) for palette in given.target)
    assert len({tuple(palette.tolist()) for palette in given.target}) == 6
    assert torch.equal(given.condition[0], given.target)


def test_an_unconditional_system_asks_for_no_palette(
    make_objective: MakeObjective, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PaletteSampler, "sample", None)
    objective = make_objective("sb-gan")
    torch.testing.assert_close(draw(objective).target, torch.full((4, 3), 1 / 3))
    images, divergence = objective.inputs.sheet(objective.generator.module.eval(), TOP)
    assert divergence is None
    assert len(images) == 16


@pytest.mark.parametrize(("kind", "soft_layouts"), [("sb-gan", True), ("baseline-1", False), ("baseline-1", True)])
def test_the_discriminator_sees_real_layouts_of_the_same_kind_as_generated_ones(
    kind: str, soft_layouts: bool, make_objective: MakeObjective
) -> None:
    objective = make_objective(kind, replace(SMALL, soft_layouts=soft_layouts))
    seen: list[Tensor] = []
    discriminator = objective.discriminator.forward

    class Watched(nn.Module):
        def forward(self, layout: Tensor, *rest: Any) -> Tensor:
            seen.append(layout)
            return discriminator(layout, *rest)

    objective.discriminator.forward = Watched()
    objective.discriminator_loss(0, Moment(TOP, 0.5, 4, False))
    real, fake = seen
    one_hot = {0.0, 1.0}
    hard = kind == "sb-gan" or not soft_layouts
    assert (set(real.unique().tolist()) == one_hot) == hard
    assert (set(fake.unique().tolist()) == one_hot) == hard
    torch.testing.assert_close(real.sum(dim=1), torch.ones(4, *SIZE))


def test_the_penalty_of_a_conditional_discriminator_is_taken_between_the_palettes_too(
    make_objective: MakeObjective,
) -> None:
    objective = make_objective("baseline-2")
    moment = Moment(TOP, 1.0, 4, False)
    random = torch_generator(3, "baseline-2", 0)
    real, real_palette = objective._real_layouts(0, moment, random)
    share = torch.rand(4, generator=random)
    inputs = objective.inputs.draw(0, "critic", 4)
    fake = run(objective, inputs).layout
    norms = []
    for i in range(4):
        palette = torch.lerp(real_palette, inputs.target, share[:, None])
        mixed = torch.lerp(real, fake, share[:, None, None, None]).requires_grad_(True)
        scores = objective.discriminator.module(mixed, level=TOP, palette=palette)
        (gradient,) = torch.autograd.grad(scores.sum(), mixed)
        norms.append(gradient[i].norm().item())
    _, parts = objective.discriminator_loss(0, moment)
    assert parts["penalty"].item() == pytest.approx(sum((norm - 1) ** 2 for norm in norms) / 4, rel=1e-5)
    # Real layouts come with their own palettes.
    assert real_palette.shape == (4, 3)
    torch.testing.assert_close(real_palette.sum(dim=1), torch.ones(4))

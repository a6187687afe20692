from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import one_hot
from scenepalette.generators.images.base import ImageGenerator
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.images.systems.oasis import OasisSettings
from scenepalette.generators.images.systems.sean import SeanSettings
from scenepalette.generators.kernels import label_patches, passes, winograd
from scenepalette.generators.kernels.dispatch import Least, Tuning
from scenepalette.generators.kernels.passes import accelerate, prepare_for_inference
from scenepalette.generators.kernels.spade_tables import TabulatedSpadeBlock
from scenepalette.generators.nn.blocks import EqualizedConv2d, SpadeResidualBlock, SpatiallyAdaptiveNorm
from scenepalette.training.average import averaged_copy, update_average

CHANNELS = 16
LEAST = Tuning(inference=Least(CHANNELS, 128), training=Least(CHANNELS, 1024), multiplies_by_mm=True)
SIZE = (32, 48)


@pytest.fixture(autouse=True)
def tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same choices on all processors."""
    monkeypatch.setattr(winograd, "TUNING", LEAST)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Which faster ways were really taken."""
    taken: set[str] = set()

    def watch(owner: object, name: str, way: str) -> None:
        original = getattr(owner, name)

        def watched(*args: object, **options: object) -> object:
            taken.add(way)
            return original(*args, **options)

        monkeypatch.setattr(owner, name, watched)

    watch(winograd, "convolve", "few multiplications")
    watch(passes, "convolve_patches", "patches")
    watch(TabulatedSpadeBlock, "_part", "tables")
    return taken


class StrangersBlock(nn.Module):
    """Convolutions of all kinds, some of which are not the 3x3 convolution that they look like."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.plain = spectral_norm(nn.Conv2d(channels, channels, 3, padding=1))
        self.mirrored = weight_norm(nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"))
        self.strided = nn.Conv2d(channels, channels, 3, padding=1, stride=2)
        self.grouped = nn.Conv2d(channels, channels, 3, padding=1, groups=2)
        self.standardised = Standardised(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.standardised(F.relu(self.plain(x))) + self.mirrored(x) + self.grouped(x)
        return F.interpolate(self.strided(x), scale_factor=2, mode="nearest")


class Standardised(nn.Conv2d):
    """A convolution whose weights have mean 0."""

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True), self.bias, padding=1)


class StrangersGenerator(ImageGenerator):
    """A system that imports nothing of the kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes, self.noise_schemes = 3, ()
        self.begin = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.own = StrangersBlock(CHANNELS)
        self.spade = SpadeResidualBlock(CHANNELS, CHANNELS, 3, hidden_channels=8, upsampling="nearest")
        self.to_image = nn.Conv2d(CHANNELS, 3, 1)

    def sample_noise(self, scheme: object, label: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        return torch.zeros(len(label), 0)

    def forward(self, label_map: Tensor, noise: Tensor) -> Tensor:
        x = self.own(self.begin(F.avg_pool2d(label_map, 2)))
        return torch.tanh(self.to_image(self.spade(x, label_map)))


def make_label(size: tuple[int, int] = SIZE) -> Tensor:
    label = torch.zeros(2, *size, dtype=torch.int64)
    label[0, 20:, 10:], label[1, :, 30:] = 1, 2
    return label


def strangers() -> tuple[StrangersGenerator, list[Tensor]]:
    torch.manual_seed(0)
    network, inputs = StrangersGenerator(), [one_hot(make_label(), 3), torch.zeros(2, 0)]
    for _ in range(3):  # spectral norms and batch statistics move
        network(*inputs)
    return network, inputs


def test_a_system_that_knows_nothing_of_kernels_trains_the_same_and_faster(seen: set[str]) -> None:
    plain, inputs = strangers()
    fast = copy.deepcopy(plain)
    accelerate(fast)
    average = averaged_copy(fast)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    expected = plain(*inputs)
    expected.square().mean().backward()
    assert not seen
    result = fast(*inputs)
    result.square().mean().backward()
    assert seen == {"few multiplications", "patches"}
    assert torch.allclose(result, expected, atol=1e-4)
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert (ours.grad - theirs.grad).abs().max() < 1e-3 * theirs.grad.abs().max() + 1e-6
    # A copy computes with its own weights.
    with torch.no_grad():
        before = average(*inputs)
        for parameter in fast.to_image.parameters():
            parameter.zero_()
        assert torch.equal(average(*inputs), before)
        update_average(average, fast, 0.0)
        assert (average(*inputs) == 0).all()
    plain.load_state_dict(fast.state_dict())


@torch.no_grad()
def test_a_system_that_knows_nothing_of_kernels_is_prepared(seen: set[str]) -> None:
    (plain, inputs), (prepared, _), (rough, _) = strangers(), strangers(), strangers()
    plain.eval()
    accelerate(rough)  # as an average of a training is
    assert prepare_for_inference(prepared) is prepared
    prepare_for_inference(rough, torch.bfloat16)
    expected = plain(*inputs)
    assert not seen
    assert torch.allclose(prepared(*inputs), expected, atol=1e-5)
    assert seen == {"few multiplications", "tables"}
    assert (rough(*inputs) - expected).abs().mean() < 0.02
    with torch.autocast("cpu", torch.bfloat16):
        assert (rough(*inputs).float() - expected).abs().mean() < 0.02
    assert not any(parameter.requires_grad for parameter in prepared.parameters())


def test_folding_keeps_the_weights_of_the_moment() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(spectral_norm(nn.Conv2d(3, 4, 3)), EqualizedConv2d(4, 5, 3, padding=1)).eval()
    assert isinstance(network[1], EqualizedConv2d)
    weight, scaled = network[0].weight.detach().clone(), network[1].weight.detach() * network[1].scale
    prepare_for_inference(network)
    assert torch.equal(network[0].weight, weight) and isinstance(network[0].weight, nn.Parameter)  # type: ignore[arg-type]
    assert torch.equal(network[1].weight, scaled) and network[1].scale == 1.0
    assert set(network.state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}


@torch.no_grad()
@pytest.mark.parametrize(
    "make",
    [lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), lambda: EqualizedConv2d(CHANNELS, CHANNELS, 3, padding=1)],
    ids=["convolution", "equalised"],
)
def test_points_are_kept_for_inference_and_used_where_there_are_enough_pixels(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    plain, x = make(), torch.randn(2, CHANNELS, 12, 16)
    accelerated, prepared = copy.deepcopy(plain), copy.deepcopy(plain)
    accelerate(accelerated)
    prepare_for_inference(prepared)
    expected = plain(x)
    assert torch.allclose(accelerated(x), expected, atol=1e-6)
    assert prepared.points is not None and prepared.state_dict().keys() == plain.state_dict().keys()
    assert not torch.equal(prepared(x), expected) and torch.allclose(prepared(x), expected, atol=1e-5)
    small = x[:1, :, :4, :4]
    assert torch.allclose(prepared(small), plain(small), atol=1e-6)


def test_gradients_of_gradients_pass_through_equalised_layers() -> None:
    torch.manual_seed(0)
    plain = EqualizedConv2d(3, 5, 3, padding=1)
    fast, x = copy.deepcopy(plain), torch.randn(2, 3, 6, 8, requires_grad=True)
    accelerate(fast)
    penalties = []
    for layer in (fast, plain):
        (slope,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        penalties.append(torch.autograd.grad(slope.square().sum(), [layer.weight, layer.bias]))
    assert "_Convolution" in str(fast(x).grad_fn)
    for ours, theirs in zip(*penalties, strict=True):
        assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


@pytest.mark.parametrize(
    ("system", "settings"),
    [
        ("oasis", OasisSettings(width=16, noise_channels=4, hidden_channels=8)),
        ("sean", SeanSettings(width=16, hidden_channels=8, style_channels=5, encoder_width=4)),
    ],
)
def test_a_wide_generator_is_the_same_when_prepared(system: str, settings: object, seen: set[str]) -> None:
    torch.manual_seed(0)
    network = IMAGE_SYSTEMS[system].build_generator(ClassTable.unnamed(3), (64, 64), settings).eval()
    label = make_label((64, 64))
    noise = network.sample_noise(None, label, [torch.Generator().manual_seed(i) for i in range(2)])
    noise = noise + torch.randn(2, *noise.shape[1:2], *(1,) * (noise.ndim - 2))
    with torch.no_grad():
        expected = network(one_hot(label, 3), noise)
        assert not seen
        prepare_for_inference(network)
        assert (network(one_hot(label, 3), noise) - expected).abs().max() < 1e-4
    assert seen == {"few multiplications", "tables"}


def test_modulations_in_tables_keep_no_points() -> None:
    block = SpadeResidualBlock(CHANNELS, CHANNELS, CHANNELS, CHANNELS, spectral=False)
    network = prepare_for_inference(nn.Sequential(block))
    assert [name for name, _ in network.named_buffers() if name.endswith("points")] == [
        "0.block.conv_0.points",
        "0.block.conv_1.points",
    ]


class Constant(SpatiallyAdaptiveNorm):
    def modulation(self, condition: Tensor, size: tuple[int, int], codes: Tensor | None = None) -> Tensor:
        return self.scale_and_shift.bias[:, None, None].expand(len(condition), -1, *size)  # type: ignore[index]


def test_a_subclass_keeps_its_own_modulation_and_so_does_a_block_that_has_one() -> None:
    torch.manual_seed(0)
    block = SpadeResidualBlock(4, 4, 3, 8, spectral=False)
    block.norm_0 = Constant(4, 3, 8)
    plain, x, label_map = nn.Sequential(block).eval(), torch.randn(2, 4, *SIZE), one_hot(make_label(), 3)
    expected = plain[0](x, label_map)
    assert torch.allclose(prepare_for_inference(copy.deepcopy(plain))[0](x, label_map), expected, atol=1e-5)
    block.norm_0 = SpatiallyAdaptiveNorm(4, 3, 8)
    assert isinstance(prepare_for_inference(plain)[0], TabulatedSpadeBlock)


def test_networks_are_accelerated_on_no_device_and_symbols_are_sought_on_cpus_alone() -> None:
    with torch.device("meta"):
        accelerate(SpadeResidualBlock(4, 6, 3))
        assert label_patches.find_symbols(torch.zeros(1, 3, 4, 4)) is None


@torch.no_grad()
def test_a_network_that_will_be_compiled_keeps_its_modules(seen: set[str]) -> None:
    (plain, inputs), (prepared, _) = strangers(), strangers()
    plain.eval()
    assert prepare_for_inference(prepared, faster=False) is prepared
    torch.testing.assert_close(prepared(*inputs), plain(*inputs), rtol=0, atol=1e-5)
    assert not seen
    assert not any(torch.nn.utils.parametrize.is_parametrized(module) for module in prepared.modules())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
@pytest.mark.parametrize("patches", [False, True])
@torch.no_grad()
def test_a_gpu_computes_what_the_cpu_does(patches: bool, seen: set[str]) -> None:
    (plain, inputs), (prepared, _) = strangers(), strangers()
    plain.eval()
    prepare_for_inference(prepared.cuda(), patches=patches)
    result = prepared(*(value.cuda() for value in inputs)).cpu()
    assert seen == ({"patches"} if patches else set())
    torch.testing.assert_close(result, plain(*inputs), rtol=0, atol=2e-3)  # of TF32

"""Models of public packages, and of papers, that contain transposed convolutions, offline and with random weights.

``python -m benchmarks.models`` measures them. Each needs its package; what is not installed is left out by name.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from .shares import dcgan, fsrcnn

#: A model, and what one inference is: called without arguments.
Built = tuple[Any, Callable[[], Any]]


@dataclass(frozen=True)
class Model:
    """One model of the table."""

    name: str
    domain: str
    package: str
    build: Callable[[], Built]
    #: Whether it calls `torch.nn.functional` by itself, so that `patch` is what serves it.
    functional: bool = False
    #: What torch's time over ours is held to, and what part of torch's time in transposed convolutions ours may take.
    ratio: float = 0.98
    part: float = 0.6

    @property
    def missing(self) -> str:
        """The package to install, or nothing."""
        return "" if importlib.util.find_spec(self.package) else self.package.replace("_", "-")


def _torch() -> Any:
    import torch

    return torch


def stub_torchvision() -> None:
    """Make PyPI's torchvision importable beside a torch of the CPU, whose compiled half it cannot load.

    Two operators that its Python half names on import get a schema; nothing here calls them.
    """
    torch = _torch()
    if importlib.util.find_spec("torchvision") is None or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)


#: A library's operators live as long as it does.
_KEPT: list[Any] = []


def _mimi(frames: int) -> Built:
    from transformers import MimiConfig, MimiModel

    model = MimiModel(MimiConfig()).eval()
    codes = _torch().randint(0, 2048, (1, 8, frames))
    return model, lambda: model.decode(codes).audio_values


def _encodec(frames: int) -> Built:
    from transformers import EncodecConfig, EncodecModel

    model = EncodecModel(EncodecConfig()).eval().decoder
    return model, partial(model, _torch().randn(1, 128, frames))


def _dac(frames: int) -> Built:
    from transformers import DacConfig, DacModel

    model = DacModel(DacConfig()).eval().decoder
    return model, partial(model, _torch().randn(1, 1024, frames))


def _oobleck(latents: int) -> Built:
    from diffusers import AutoencoderOobleck

    model = AutoencoderOobleck().eval()
    z = _torch().randn(1, 64, latents)
    return model.decoder, lambda: model.decode(z).sample


def _snac() -> Built:
    from snac import SNAC

    torch = _torch()
    model = SNAC(24000, 48, [2, 4, 8, 8], None, 1024, [8, 8, 4, 2], None, 4096, 8, [4, 2, 1]).eval().decoder
    z = torch.randn(1, 768, 24)

    def infer() -> Any:
        torch.manual_seed(0)  # it adds noise
        return model(z)

    return model, infer


def _bigvgan() -> Built:
    from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniBigVGANConfig
    from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniToken2WavBigVGANModel

    config = Qwen2_5OmniBigVGANConfig(upsample_initial_channel=512)
    model = Qwen2_5OmniToken2WavBigVGANModel(config).eval()
    return model, partial(model, _torch().randn(1, 80, 16))


def _htdemucs() -> Built:
    from demucs.htdemucs import HTDemucs

    sources = ["drums", "bass", "other", "vocals"]
    model = HTDemucs(sources, 2, channels=48, t_layers=5, bottom_channels=512, segment=2).eval()
    return model, partial(model, _torch().randn(1, 2, 2 * 44100))


def _sam() -> Built:
    from transformers import SamConfig, SamModel

    torch = _torch()
    model = SamModel(SamConfig(vision_config={"num_hidden_layers": 1, "hidden_size": 64, "mlp_dim": 64})).eval()
    image, points = torch.randn(1, 256, 64, 64), torch.rand(1, 8, 1, 2) * 1024
    return model, lambda: model(image_embeddings=image, input_points=points).pred_masks


def _eomt() -> Built:
    from transformers import EomtConfig, EomtForUniversalSegmentation

    config = EomtConfig(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536, image_size=320
    )
    model = EomtForUniversalSegmentation(config).eval()
    image = _torch().randn(1, 3, 320, 320)
    return model, lambda: model(pixel_values=image).masks_queries_logits


def _mask_predictor() -> Built:
    from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

    model = MaskRCNNPredictor(256, 256, 91).eval()
    return model, partial(model, _torch().randn(16, 256, 14, 14))


def _keypoint_predictor() -> Built:
    from torchvision.models.detection.keypoint_rcnn import KeypointRCNNPredictor

    model = KeypointRCNNPredictor(512, 17).eval()
    return model, partial(model, _torch().randn(4, 512, 14, 14))


def _yolo() -> Built:
    from ultralytics.nn.tasks import SegmentationModel

    model = SegmentationModel("yolo11n-seg.yaml", verbose=False).eval()
    image = _torch().rand(1, 3, 640, 640)
    return model, lambda: model(image)[0]


def _nnunet() -> Built:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    nn = _torch().nn
    model = PlainConvUNet(
        1, 6, [32, 64, 128, 256, 320, 320], nn.Conv3d, 3, [1, 2, 2, 2, 2, 2], 2, 2, 2, conv_bias=True,
        norm_op=nn.InstanceNorm3d, norm_op_kwargs={"affine": True}, nonlin=nn.LeakyReLU,
    ).eval()  # fmt: skip
    return model, partial(model, _torch().randn(1, 1, 64, 64, 64))


def _mednext() -> Built:
    from monai.networks.nets import MedNeXtS

    model = MedNeXtS(spatial_dims=3, in_channels=1, out_channels=2).eval()
    return model, partial(model, _torch().randn(1, 1, 48, 48, 48))


def _monai_unet() -> Built:
    from monai.networks.nets import UNet

    model = UNet(3, 1, 2, (16, 32, 64, 128, 256), (2,) * 4, num_res_units=2).eval()
    return model, partial(model, _torch().randn(1, 1, 96, 96, 96))


def _linknet() -> Built:
    from segmentation_models_pytorch import Linknet

    model = Linknet("resnet34", encoder_weights=None).eval()
    return model, partial(model, _torch().randn(1, 3, 256, 256))


def _of_a_paper(build: Callable[[], tuple[Any, Any]]) -> Built:
    model, x = build()
    return model.eval(), partial(model, _torch().randn(x.shape))


SPEECH, MUSIC, IMAGE, VOLUME = "speech and audio codecs", "music separation", "images", "volumes"
GENERATOR = "generators, super-resolution"
MODELS = {
    model.name: model
    for model in (
        Model("Mimi, 12 frames", SPEECH, "transformers", partial(_mimi, 12), ratio=1.3),
        Model("Mimi, 1 frame", SPEECH, "transformers", partial(_mimi, 1), ratio=1.3),
        Model("EnCodec, 75 frames", SPEECH, "transformers", partial(_encodec, 75), ratio=1.07),
        Model("EnCodec, 4 frames", SPEECH, "transformers", partial(_encodec, 4)),
        Model("DAC, 50 frames", SPEECH, "transformers", partial(_dac, 50), ratio=1.12),
        Model("Oobleck, 8 latents", SPEECH, "diffusers", partial(_oobleck, 8)),
        Model("Qwen2.5-Omni BigVGAN", SPEECH, "transformers", _bigvgan, functional=True),
        Model("SNAC", SPEECH, "snac", _snac),
        Model("HTDemucs, 2 s", MUSIC, "demucs", _htdemucs),
        Model("DCGAN's generator", GENERATOR, "torch", partial(_of_a_paper, dcgan)),
        Model("FSRCNN", GENERATOR, "torch", partial(_of_a_paper, fsrcnn)),
        Model("SAM mask decoder", IMAGE, "transformers", _sam),
        Model("EoMT", IMAGE, "transformers", _eomt),
        Model("YOLO11n-seg", IMAGE, "ultralytics", _yolo),
        Model("Mask R-CNN predictor", IMAGE, "torchvision", _mask_predictor),
        Model("keypoint predictor", IMAGE, "torchvision", _keypoint_predictor, part=0.9),
        Model("LinkNet", IMAGE, "segmentation_models_pytorch", _linknet),
        Model("nnU-Net PlainConvUNet", VOLUME, "dynamic_network_architectures", _nnunet),
        Model("MONAI UNet", VOLUME, "monai", _monai_unet),
        Model("MedNeXt-S", VOLUME, "monai", _mednext),
    )
}

"""PSPNet-R50 for folders of scenepalette, in the form of MMSegmentation 1.x; replace it by your own configuration.

`train.py` fills in what depends on the data: data_root, classes, num_classes, max_iters, work_dir and the seed.
"""

crop_size = (512, 512)
norm_cfg = {"type": "BN", "requires_grad": True}
default_scope = "mmseg"
env_cfg = {"cudnn_benchmark": False}
load_from = None
resume = True  # an interrupted training resumes from the last checkpoint in {model}

model = {
    "type": "EncoderDecoder",
    "data_preprocessor": {
        "type": "SegDataPreProcessor",
        "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375],
        "bgr_to_rgb": True,
        "pad_val": 0,
        "seg_pad_val": 255,
        "size": crop_size,
    },
    "backbone": {
        "type": "ResNetV1c",
        "depth": 50,
        "num_stages": 4,
        "out_indices": (0, 1, 2, 3),
        "dilations": (1, 1, 2, 4),
        "strides": (1, 2, 1, 1),
        "norm_cfg": norm_cfg,
        "norm_eval": False,
        "style": "pytorch",
        "contract_dilation": True,
    },
    "decode_head": {
        "type": "PSPHead",
        "in_channels": 2048,
        "in_index": 3,
        "channels": 512,
        "pool_scales": (1, 2, 3, 6),
        "dropout_ratio": 0.1,
        "num_classes": 2,
        "norm_cfg": norm_cfg,
        "align_corners": False,
        "loss_decode": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
    },
    "train_cfg": {},
    "test_cfg": {"mode": "whole"},
}
train_pipeline = [
    {"type": "LoadImageFromFile"},
    {"type": "LoadAnnotations"},
    {"type": "RandomResize", "scale": (1024, 512), "ratio_range": (0.5, 2.0), "keep_ratio": True},
    {"type": "RandomCrop", "crop_size": crop_size, "cat_max_ratio": 0.75},
    {"type": "RandomFlip", "prob": 0.5},
    {"type": "PackSegInputs"},
]
test_pipeline = [{"type": "LoadImageFromFile"}, {"type": "PackSegInputs"}]
train_dataloader = {
    "batch_size": 4,
    "num_workers": 2,
    "persistent_workers": True,
    "sampler": {"type": "InfiniteSampler", "shuffle": True},
    "dataset": {
        "type": "BaseSegDataset",
        "data_root": "",
        "data_prefix": {"img_path": "images", "seg_map_path": "labels"},
        "img_suffix": ".png",
        "seg_map_suffix": ".png",
        "reduce_zero_label": False,
        "pipeline": train_pipeline,
    },
}
optim_wrapper = {
    "type": "OptimWrapper",
    "optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0005},
}
train_cfg = {"type": "IterBasedTrainLoop", "max_iters": 20000}
default_hooks = {"checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": 2000, "max_keep_ckpts": 1}}

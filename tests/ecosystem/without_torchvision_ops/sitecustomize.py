"""Declares two operators that torchvision registers at import, for a torchvision whose compiled part does not load.

That is so where a CPU build of torch meets the torchvision of the package index. Nothing here calls them.
"""

import torch

library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

"""What each attention computes, by a second implementation; and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.attention import ATTENTIONS, PARTS, Cbam, Parts, Rollout, select
from retrieval.backbones import build_backbone
from retrieval.errors import InputError
from tests.retrieval.networks import LAST, MAPS, TOKENS, composed, images_of


def backbone_of(name: str):
    torch.manual_seed(1)
    return build_backbone(name, **({"img_size": 64} if name == TOKENS else {}))


@pytest.mark.parametrize("name", [MAPS, LAST, TOKENS])
def test_cbam_begins_as_the_pretrained_function(name: str) -> None:
    backbone, images = backbone_of(name), images_of()
    with torch.no_grad():
        torch.testing.assert_close(Cbam(backbone)(backbone, images), backbone.forward_features(images))


@pytest.mark.parametrize("name", [MAPS, LAST, TOKENS])
def test_cbam_is_the_papers_with_gates_to_two(name: str) -> None:
    backbone, images = backbone_of(name), images_of(2, 64)[:, :, :, :48]  # rows and columns differ
    if name == TOKENS:
        backbone = build_backbone(name, img_size=(64, 48))
    torch.manual_seed(0)
    cbam = Cbam(backbone)
    with torch.no_grad():
        for value in cbam.parameters():
            value.normal_(std=0.3)
        got, features = cbam(backbone, images), backbone.forward_features(images)
        kept = features[:, :1] if name == TOKENS else None
        maps = {
            MAPS: lambda x: x,
            LAST: lambda x: x.permute(0, 3, 1, 2),
            TOKENS: lambda x: x[:, 1:].transpose(1, 2).reshape(2, -1, 4, 3),
        }[name]

        def hidden(x: torch.Tensor) -> torch.Tensor:
            first = torch.nn.functional.conv2d(x, cbam.squeeze.weight[:, :, None, None], cbam.squeeze.bias).relu()
            return torch.nn.functional.conv2d(first, cbam.excite.weight[:, :, None, None], cbam.excite.bias)

        x = maps(features)
        pooled = torch.nn.functional.adaptive_avg_pool2d(x, 1), torch.nn.functional.adaptive_max_pool2d(x, 1)
        x = x * 2 * torch.sigmoid(hidden(pooled[0]) + hidden(pooled[1]))
        x = x * 2 * torch.sigmoid(cbam.spatial(torch.cat([x.mean(1, True), x.max(1, True).values], 1)))
    torch.testing.assert_close(maps(got), x)
    if kept is not None:
        torch.testing.assert_close(got[:, :1], kept)
    assert got.shape == features.shape
    assert (got - features).abs().max() > 0.1 * features.abs().max()


@pytest.mark.parametrize("name", [MAPS, LAST, TOKENS])
def test_parts_are_weighted_means_side_by_side(name: str) -> None:
    backbone, images = backbone_of(name), images_of(2)
    parts = Parts(backbone)
    with torch.no_grad():
        got = parts(backbone, images)
        features = backbone.forward_features(images).numpy()
    channels = backbone.num_features
    rows = {
        MAPS: lambda x: x.reshape(channels, -1).T,
        LAST: lambda x: x.reshape(-1, channels),
        TOKENS: lambda x: x[1:],
    }[name]
    weight, bias = (value.detach().numpy() for value in (parts.maps.weight, parts.maps.bias))
    assert got.shape == (2, PARTS * channels, 1, 1)
    for image in range(2):
        values = rows(features[image])
        for part in range(PARTS):
            shares = 1 / (1 + np.exp(-(values @ weight[part] + bias[part])))
            expected = (shares[:, None] * values).mean(0)
            found = got[image, part * channels : (part + 1) * channels, 0, 0]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_rollout_is_that_of_a_plain_vision_transformer() -> None:
    backbone, images = backbone_of(TOKENS), images_of(3)
    rollout = Rollout(backbone)
    for block in backbone.blocks:
        block.attn.fused_attn = False  # so that the matrices can be seen
        block.attn.attn_drop = torch.nn.Identity()
        with torch.no_grad():
            block.attn.qkv.weight.mul_(8)  # attention that is nearly the same everywhere would prove little
    seen: list[torch.Tensor] = []
    hooks = [block.attn.attn_drop.register_forward_hook(lambda *at: seen.append(at[2])) for block in backbone.blocks]
    with torch.no_grad():
        tokens = backbone._pos_embed(backbone.patch_embed(images))
        for block in backbone.blocks[:-1]:
            tokens = block(tokens)
        rolled = seen[0]
        for weights in seen[1:]:
            rolled = weights @ rolled
        chosen = rolled[:, :, 0, 1:].argmax(-1)  # (images, heads)
        assert len(chosen.unique()) > 2
        kept = [torch.stack([rows[0], *(rows[1 + at] for at in best)]) for rows, best in zip(tokens, chosen)]  # noqa: B905
        expected = backbone.norm(backbone.blocks[-1](torch.stack(kept)))
        for hook in hooks:
            hook.remove()
        got = rollout(backbone, images)
    assert got.shape == (3, 1 + backbone.blocks[0].attn.num_heads, backbone.num_features)
    torch.testing.assert_close(got, expected)


def test_the_patch_is_followed_through_the_blocks() -> None:
    # Two tokens before three patches. The class token looks at token 3 above, and token 3 at token 4 below.
    below, above = torch.eye(5)[None, None], torch.eye(5)[None, None].clone()
    below = below.clone()
    below[0, 0, 3] = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.6])
    above[0, 0, 0] = torch.tensor([0.1, 0.0, 0.0, 0.9, 0.0])
    assert select([below, above], 2).tolist() == [[2]]
    assert select([above, below], 2).tolist() == [[1]]


def test_what_does_not_go_together_says_what_to_choose(tmp_path: Path) -> None:
    for name in (MAPS, LAST, "test_vit_relpos"):
        with pytest.raises(InputError, match=r"needs a plain vision transformer .* choose the attention parts or cbam"):
            ATTENTIONS["rollout"].build(build_backbone(name))
    with pytest.raises(
        InputError, match="parts pools by itself and leaves nothing to the pooling gem; choose the pool"
    ):
        composed(MAPS, tmp_path, attention="parts", pooling="gem")
    with pytest.raises(InputError, match="reads the class token, which the attention cbam does not change; choose"):
        composed(TOKENS, tmp_path, attention="cbam", pooling="native")
    with pytest.raises(InputError, match="there is no attention 'eca'; choose one of none, cbam, parts, rollout"):
        composed(MAPS, tmp_path, attention="eca")

"""What the traced operators mean to matching: the vocabulary that the passes share.

Names are torch's operator names without namespace and overload. They are grouped by what they do to the question
"who feeds whom", not by what they compute.
"""

from __future__ import annotations

CASTS = frozenset(
    """_to_copy to alias contiguous clone detach dropout float double half type_as lift_fresh_copy lift_fresh
    identity native_dropout feature_dropout alpha_dropout dropout_ bfloat16 _to_dtype to_dtype conj resolve_conj
    resolve_neg _conj requires_grad_ cpu cuda""".split()
)
"""Same entries, same places."""

RESHAPES = frozenset(
    """view _unsafe_view reshape view_as reshape_as flatten unflatten squeeze unsqueeze expand expand_as
    broadcast_to _reshape_alias ravel atleast_1d atleast_2d atleast_3d _reshape_copy""".split()
)
"""Same entries in row-major order under another shape (an expansion repeats them)."""

PERMUTES = frozenset(
    """t transpose permute movedim swapaxes swapdims mT mH numpy_T matrix_H T adjoint moveaxis""".split()
)
"""Axes in another order."""

PARTS = frozenset(
    """slice select narrow getitem chunk split split_with_sizes unbind tensor_split unsafe_chunk""".split()
)
"""A part of the entries: where a fused product comes apart."""

SPLITS = frozenset("chunk split split_with_sizes unbind tensor_split unsafe_chunk".split())
"""Parts that come as a tuple, taken apart by `getitem`."""

OTHER_MOVES = frozenset(
    """repeat repeat_interleave tile roll flip fliplr flipud index index_select gather take_along_dim unfold fold
    im2col col2im constant_pad_nd pad tril triu masked_fill masked_select nan_to_num pixel_shuffle
    pixel_unshuffle channel_shuffle upsample_nearest2d upsample_bilinear2d upsample_bicubic2d upsample_nearest1d
    upsample_linear1d upsample_nearest3d upsample_trilinear3d interpolate view_as_real view_as_complex real imag
    polar complex diagonal diag_embed rot90 as_strided unflatten_dense_tensors reflection_pad1d reflection_pad2d
    replication_pad1d replication_pad2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler
    grid_sampler_2d cumsum slice_backward view_copy roll_copy block_diag""".split()
)
"""Entries moved, repeated, padded, masked or interpolated."""

REDUCTIONS = frozenset(
    """mean sum amax amin max min var std logsumexp prod any all avg_pool1d avg_pool2d avg_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d max_pool1d max_pool2d max_pool3d
    max_pool2d_with_indices adaptive_max_pool2d _adaptive_avg_pool2d linalg_vector_norm norm var_mean std_mean
    adaptive_max_pool1d lp_pool2d median""".split()
)
"""Entries averaged, summed or pooled away."""

SCALAR_MATHS = frozenset(
    """neg sqrt rsqrt abs pow square reciprocal cos sin clamp clamp_min clamp_max round floor ceil sign expm1 log
    log1p log2 log10 exp2 real_if_close frac trunc fmod remainder bitwise_not logical_not arccos arcsin atan
    atan2 sinh cosh positive deg2rad float_power""".split()
)
"""Arithmetic on one tensor, entry by entry, that no network uses as its nonlinearity between two layers."""

ACTIVATIONS = frozenset(
    """gelu silu relu tanh sigmoid hardswish hardsigmoid leaky_relu elu mish softplus relu6 quick_gelu erf selu
    celu prelu hardtanh log_sigmoid softmax _softmax log_softmax exp softsign glu logsigmoid threshold rrelu
    tanhshrink hardshrink softshrink safe_softmax _safe_softmax swish_by_hand gelu_by_hand""".split()
)
"""A network's nonlinearities."""

JOINS = frozenset(
    """add sub rsub mul div cat concat concatenate stack hstack vstack where minimum maximum addcmul addcdiv lerp
    scatter scatter_add index_put index_add masked_scatter true_divide floor_divide logical_and logical_or
    bitwise_and bitwise_or eq ne lt le gt ge outer fmin fmax slice_scatter select_scatter copy ger cross hypot
    logaddexp index_copy xlogy scatter_reduce""".split()
)
"""Several tensors become one, entry by entry or side by side."""

LINEARS = frozenset("""linear addmm mm matmul bmm baddbmm mv dot einsum tensordot addmv _addmm_activation""".split())
CONVOLUTIONS = frozenset(
    """conv1d conv2d conv3d convolution _convolution conv_transpose1d conv_transpose2d conv_transpose3d
    _conv_depthwise2d cudnn_convolution mkldnn_convolution""".split()
)
NORMS = frozenset(
    """layer_norm native_layer_norm group_norm native_group_norm rms_norm _fused_rms_norm batch_norm
    native_batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit instance_norm
    cudnn_batch_norm local_response_norm norm_by_hand""".split()
)
ATTENTION = frozenset(
    """scaled_dot_product_attention _scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention
    _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_attention_math
    _scaled_dot_product_cudnn_attention""".split()
)
SOFTMAXES = frozenset("softmax _softmax safe_softmax _safe_softmax".split())

MOVES = CASTS | RESHAPES | PERMUTES | PARTS | OTHER_MOVES
